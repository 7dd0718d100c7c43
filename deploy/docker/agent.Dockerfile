# The agent. At the top of a checkout, after `make dist`:
#
#     docker build -f deploy/docker/agent.Dockerfile -t tracker-agent:0.1.0 .
#
# How to run it: deploy/compose, deploy/helm; docs/deploy.md.

FROM debian:trixie-slim AS build
# The release of Debian is the pin: its security updates are wanted.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY requirements/agent.txt ./
# Everything of others is pinned by hash and comes as a wheel: nothing is compiled.
RUN python3 -m venv /opt/tracker-agent \
    && /opt/tracker-agent/bin/pip install --no-cache-dir --only-binary=:all: --require-hashes --requirement agent.txt
COPY dist/*.whl dist/
RUN /opt/tracker-agent/bin/pip install --no-cache-dir --no-index --find-links dist tracker-agent \
    && /opt/tracker-agent/bin/pip check \
    && /opt/tracker-agent/bin/pip uninstall --yes pip

FROM debian:trixie-slim
# acl: whoever sets up the spool (deploy/compose, deploy/helm) runs setfacl from here.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends acl ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 60906 tracker \
    && useradd --uid 60906 --gid tracker --home-dir /var/lib/tracker-agent --shell /usr/sbin/nologin tracker-agent \
    && install -d -o tracker-agent -g tracker -m 0700 /var/lib/tracker-agent \
    && ln -s /opt/tracker-agent/bin/tracker-agent /usr/bin/tracker-agent
COPY --from=build /opt/tracker-agent /opt/tracker-agent
COPY LICENSE /usr/share/doc/tracker-agent/copyright
# Settings come as variables; a file at /etc/tracker/agent.toml is read with `run --config` (docs/agent.md).
ENV PYTHONDONTWRITEBYTECODE=1 \
    TRACKER_AGENT_AGENT_STATE_DIR=/var/lib/tracker-agent \
    TRACKER_AGENT_AGENT_SPOOLS=/var/spool/tracker \
    TRACKER_AGENT_METRICS_LISTEN=127.0.0.1:9464
# By number: Kubernetes takes no name for an answer to runAsNonRoot.
USER 60906:60906
VOLUME ["/var/lib/tracker-agent"]
# Ill is an agent that is stuck, so that a restart helps; one whose server is away is not.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 \
    CMD ["/opt/tracker-agent/bin/python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 9464, timeout=8); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["tracker-agent"]
CMD ["run"]
