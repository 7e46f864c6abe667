import { createServer } from 'node:http'

/** node:http and nothing else: parses the JSON, answers 202. */
const reply = '{"accepted":1,"rejected":0,"errors":[]}'
const headers = ['content-type', 'application/json', 'content-length', String(reply.length)]
createServer((request, response) => {
  let text = ''
  request.setEncoding('utf8')
  request.on('data', (chunk: string) => (text += chunk))
  request.on('end', () => {
    if (text !== '') JSON.parse(text)
    response.writeHead(202, headers)
    response.end(reply)
  })
}).listen({ port: Number(process.env['PORT']), host: '127.0.0.1', backlog: 4_096 })
