# syntax=docker/dockerfile:1
# Current LTS of Node. Debian, since the native parts (CRC-32C, lz4, snappy, file locks) come prebuilt for glibc.
ARG NODE_IMAGE=node:24-slim

FROM ${NODE_IMAGE} AS manifests
WORKDIR /app
COPY package.json package-lock.json .npmrc ./

FROM manifests AS build
RUN --mount=type=cache,target=/root/.npm npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
COPY client ./client
RUN npm run build

FROM manifests AS dependencies
RUN --mount=type=cache,target=/root/.npm npm ci --omit=dev --ignore-scripts

FROM ${NODE_IMAGE}
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Chute" \
      org.opencontainers.image.description="HTTP to Kafka ingestion gateway: at-most-once writes, and the truth about what arrived" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

ENV NODE_ENV=production \
    HOST=0.0.0.0 \
    PORT=8080

WORKDIR /app
COPY --from=dependencies /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
# Readable for any user id, whatever the umask was that the sources were checked out with.
COPY --chmod=644 LICENSE package.json openapi.yaml ./
COPY --chmod=755 public ./public

# A place for a volume, for those who set CHUTE_DATA_DIR=/data. The image does not set it: without a volume the folder goes
# with the container, and no event in it is durable. There is no VOLUME line for the same reason: a volume that nobody asked
# for goes with the container too. A new volume of Docker's takes over the owner and the mode: the image's user may write to
# it, and so may any user id with group 0, which is what `--user 12345` gives.
RUN mkdir /data && chown 1000:0 /data && chmod 770 /data

# A number, since Kubernetes' runAsNonRoot does not look up names. It is that of "node" in Node's own images.
USER 1000:1000
EXPOSE 8080
# Alive, not ready: a gateway that waits for Kafka must not be restarted for it. PORT speaks HTTPS where it has a certificate, and
# no certificate names 127.0.0.1, so any is taken. ADMIN_PORT never speaks it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["node", "-e", "const { ADMIN_PORT, PORT, TLS_CERT, TLS_CERT_FILE } = process.env; require(!ADMIN_PORT && (TLS_CERT || TLS_CERT_FILE) ? 'https' : 'http').get({ host: '127.0.0.1', port: ADMIN_PORT || PORT, path: '/livez', rejectUnauthorized: false }, (reply) => process.exit(reply.statusCode === 200 ? 0 : 1)).on('error', () => process.exit(1))"]

# The exec form makes node process 1, so that SIGTERM reaches it and the buffers drain. Give the container longer to stop
# than DRAIN_DELAY_MS, SPOOL_DRAIN_TIMEOUT_MS and SHUTDOWN_TIMEOUT_MS together, and 3 s more.
STOPSIGNAL SIGTERM
CMD ["node", "dist/main.js", "serve"]
