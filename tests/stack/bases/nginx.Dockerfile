# A stand-in for nginx:1.28-bookworm, of Debian's own nginx: same user, folder and command.
FROM debian:bookworm-slim
RUN groupadd --system --gid 101 nginx \
    && useradd --system --gid nginx --uid 101 nginx \
    && apt-get update \
    && apt-get install -y --no-install-recommends nginx-light \
    && rm -rf /var/lib/apt/lists/*
STOPSIGNAL SIGQUIT
EXPOSE 80
CMD ["nginx", "-g", "daemon off;"]
