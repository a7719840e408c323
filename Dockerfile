# syntax=docker/dockerfile:1

# Alpine's Rust builds for musl: the binary is static and needs nothing of the image it runs in.
FROM rust:1-alpine AS build
RUN apk add --no-cache linux-headers make musl-dev
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin firedrill \
    && cp target/release/firedrill /firedrill

FROM scratch
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="firedrill" \
      org.opencontainers.image.description="A fault-injection proxy that breaks the network on purpose and shows what each side saw" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /firedrill /firedrill
COPY LICENSE-APACHE LICENSE-MIT /
# A number, so that a platform that forbids root can tell that this is not root.
USER 65534:65534
# The control API; proxies listen where the file says.
EXPOSE 8474
STOPSIGNAL SIGTERM
ENTRYPOINT ["/firedrill"]
CMD ["serve", "-c", "/etc/firedrill/firedrill.yaml"]
