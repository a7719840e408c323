# The image: one static binary and nothing else. It needs BuildKit (`docker build` of Docker 23 or
# newer; `DOCKER_BUILDKIT=1` before).
#
#   docker build -t firedrill .
#
# What it is compiled with: any image that has cargo, make, a C compiler and glibc's static library.
#   docker build --build-arg RUST=mirror.example/rust:1-bookworm -t firedrill .
# Or nothing is compiled, and a folder is taken that `docker/build` has filled:
#   docker/build target/image && docker build --build-arg FROM=built -t firedrill .
# Both are the same bits, and so is every build of one commit with one compiler.
ARG RUST=rust:1-bookworm
ARG FROM=compiled

FROM ${RUST} AS compiled
WORKDIR /src
COPY Cargo.toml Cargo.lock README.md LICENSE-APACHE LICENSE-MIT ./
COPY docker docker
COPY benches benches
COPY src src
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    docker/build /image

FROM scratch AS built
COPY target/image /image

FROM ${FROM} AS image

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="firedrill" \
      org.opencontainers.image.description="A fault-injection proxy that breaks the network on purpose and shows what each side saw" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=image /image/ /
# `firedrill.yaml` is looked for here where no flag or variable says what runs.
WORKDIR /etc/firedrill
# A number, so that a platform that forbids root can tell that this is not root.
USER 65534:65534
# The control API; proxies listen where they are told to.
EXPOSE 8474
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --retries=3 CMD ["firedrill", "health"]
ENTRYPOINT ["firedrill"]
CMD ["serve"]
