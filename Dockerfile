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
    PORT=8080 \
    CHUTE_DATA_DIR=/data

WORKDIR /app
COPY --from=dependencies /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY package.json openapi.yaml ./
COPY public ./public

# What durable streams have accepted is here until Kafka has it. Without a volume of its own it goes with the container.
RUN mkdir -m 700 /data && chown node:node /data
VOLUME /data

USER node
EXPOSE 8080
# Alive, not ready: a gateway that waits for Kafka must not be restarted for it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.ADMIN_PORT || process.env.PORT}/livez`).then((reply) => process.exit(reply.ok ? 0 : 1), () => process.exit(1))"]

# The exec form makes node process 1, so that SIGTERM reaches it and the buffers drain. Give the container longer to stop
# than DRAIN_DELAY_MS and SHUTDOWN_TIMEOUT_MS together.
STOPSIGNAL SIGTERM
CMD ["node", "dist/main.js", "serve"]
