# syntax=docker/dockerfile:1
# The images of a release: `docker build --target operator .` and `docker build --target agent .`
# The local platform makes the same without a container engine (e2e/images), and a test compares.

# Debian 12 holds the C library of the final images; the toolchain is not part of them.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p hubstorage -p hubstorage-agent \
    && install -D -t /out target/release/hubstorage target/release/hubstorage-agent

# The loader and the libraries that `ldd` names for both binaries, where the loader looks for them.
FROM scratch AS libraries-amd64
COPY --from=build /lib64/ld-linux-x86-64.so.2 /lib64/ld-linux-x86-64.so.2
COPY --from=build /lib/x86_64-linux-gnu/libc.so.6 /lib/x86_64-linux-gnu/libc.so.6
COPY --from=build /lib/x86_64-linux-gnu/libgcc_s.so.1 /lib/x86_64-linux-gnu/libgcc_s.so.1
COPY --from=build /lib/x86_64-linux-gnu/libm.so.6 /lib/x86_64-linux-gnu/libm.so.6

FROM scratch AS libraries-arm64
COPY --from=build /lib/ld-linux-aarch64.so.1 /lib/ld-linux-aarch64.so.1
COPY --from=build /lib/aarch64-linux-gnu/libc.so.6 /lib/aarch64-linux-gnu/libc.so.6
COPY --from=build /lib/aarch64-linux-gnu/libgcc_s.so.1 /lib/aarch64-linux-gnu/libgcc_s.so.1
COPY --from=build /lib/aarch64-linux-gnu/libm.so.6 /lib/aarch64-linux-gnu/libm.so.6

FROM libraries-${TARGETARCH} AS operator
# For stores with certificates of public authorities.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/hubstorage /usr/bin/hubstorage
USER 65532:65532
ENTRYPOINT ["/usr/bin/hubstorage"]

FROM libraries-${TARGETARCH} AS agent
COPY --from=build /out/hubstorage-agent /usr/bin/hubstorage-agent
USER 65532:65532
ENTRYPOINT ["/usr/bin/hubstorage-agent"]
