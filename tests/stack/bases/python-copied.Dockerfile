# A stand-in for python:X.Y-slim-bookworm, of a CPython of this machine, laid under /usr/local as there.
FROM debian:bookworm-slim
ENV LANG=C.UTF-8
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        libbz2-1.0 libexpat1 libffi8 liblzma5 libncursesw6 libnsl2 libreadline8 libsqlite3-0 libssl3 libtirpc3 \
        libuuid1 zlib1g \
    && rm -rf /var/lib/apt/lists/*
COPY local/ /usr/local/
RUN ldconfig && python3 -m ensurepip --upgrade > /dev/null && ln -sf pip3 /usr/local/bin/pip
CMD ["python3"]
