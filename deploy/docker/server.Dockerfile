# The server. At the top of a checkout, after `make dist`:
#
#     docker build -f deploy/docker/server.Dockerfile -t tracker-server:0.1.0 .
#
# How to run it: deploy/compose, deploy/helm; docs/deploy.md.

FROM debian:trixie-slim AS build
# The release of Debian is the pin: its security updates are wanted.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY requirements/server.txt ./
# Everything of others is pinned by hash and comes as a wheel: nothing is compiled.
RUN python3 -m venv /opt/tracker-server \
    && /opt/tracker-server/bin/pip install --no-cache-dir --only-binary=:all: --require-hashes --requirement server.txt
COPY dist/*.whl dist/
RUN /opt/tracker-server/bin/pip install --no-cache-dir --no-index --find-links dist tracker-server \
    && /opt/tracker-server/bin/pip check \
    && /opt/tracker-server/bin/pip uninstall --yes pip

FROM debian:trixie-slim
# /key: where the compose file's service `key` leaves a key for the agent (group 60906, that of the agent's image).
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 60907 tracker-server \
    && useradd --uid 60907 --gid tracker-server --home-dir /var/lib/tracker-server --shell /usr/sbin/nologin tracker-server \
    && install -d -o tracker-server -g tracker-server -m 0700 /var/lib/tracker-server \
    && install -d -o tracker-server -g 60906 -m 0750 /key \
    && ln -s /opt/tracker-server/bin/tracker-server /usr/bin/tracker-server
COPY --from=build /opt/tracker-server /opt/tracker-server
COPY LICENSE /usr/share/doc/tracker-server/copyright
# Settings come as variables; a file is read with `run --config` (docs/server.md). A container is reached through
# what its ports are published as, so it listens on every address it has.
ENV PYTHONDONTWRITEBYTECODE=1 \
    TRACKER_SERVER_DATA=/var/lib/tracker-server \
    TRACKER_SERVER_HTTP_HOST=0.0.0.0 \
    TRACKER_SERVER_HTTP_PORT=8600
# By number: Kubernetes takes no name for an answer to runAsNonRoot.
USER 60907:60907
VOLUME ["/var/lib/tracker-server"]
EXPOSE 8600
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 \
    CMD ["/opt/tracker-server/bin/python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8600, timeout=8); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["tracker-server"]
CMD ["run"]
