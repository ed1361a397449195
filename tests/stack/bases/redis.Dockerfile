# A stand-in for redis:7-bookworm, of Debian's own Redis: same user and folder.
FROM debian:bookworm-slim
RUN groupadd --system --gid 999 redis \
    && useradd --system --gid redis --uid 999 redis \
    && apt-get update \
    && apt-get install -y --no-install-recommends redis-server redis-tools \
    && rm -rf /var/lib/apt/lists/* \
    && install --directory --owner redis --group redis /data
VOLUME /data
WORKDIR /data
EXPOSE 6379
CMD ["redis-server"]
