# A stand-in for python:3.11-slim-bookworm, of Debian's own CPython.
FROM debian:bookworm-slim
ENV LANG=C.UTF-8
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/* /usr/lib/python3.11/EXTERNALLY-MANAGED \
    && for name in python python3 python3.11; do ln -sf /usr/bin/python3.11 /usr/local/bin/$name; done \
    && ln -sf /usr/bin/pip3 /usr/local/bin/pip
CMD ["python3"]
