# crossfade as a container. Documentation: docs/operations.md, "In a container".
#
#   docker build -t crossfade .
#   docker run --read-only -v /etc/crossfade:/etc/crossfade:ro -v /run/secrets:/run/secrets:ro crossfade
#
# Two stages on one base. The first has a compiler and installs the package, its hot modules compiled, into a virtual
# environment; the second holds that environment and an init, and nothing else is added to the base. Both stages need the
# same base, because an environment is bound to its interpreter.

# A Debian or Ubuntu with Python 3.11 or newer. To build the same again tomorrow, pin it by digest:
# --build-arg BASE=python@sha256:...
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build

# Another index, where packages come from a mirror: seen by pip, and not kept in the image.
ARG PIP_INDEX_URL

ENV CFLAGS=-g0 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore

# The base decides about versions: it is what is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev tini \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv /opt/crossfade

WORKDIR /build

# What it depends on changes less often than the code: a layer of its own. Wheels only, so that nothing but our own
# modules is compiled here.
COPY pyproject.toml ./
RUN python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
    > requirements.txt \
 && /opt/crossfade/bin/pip install --no-cache-dir --only-binary :all: --requirement requirements.txt

# An image whose hot modules are Python would work, several times slower: it is not built. What installs packages is not
# needed once they are there.
COPY README.md LICENSE ./
COPY src ./src
# What a DBA runs is linked from src: the shop of deploy/compose.yaml is made with it.
COPY deploy/sql ./deploy/sql
RUN /opt/crossfade/bin/pip install --no-cache-dir --no-deps . \
 && /opt/crossfade/bin/python -c 'from crossfade import native; raise SystemExit(not native.is_compiled())' \
 && /opt/crossfade/bin/pip check \
 && /opt/crossfade/bin/pip uninstall --yes pip setuptools


FROM ${BASE}

ARG BASE
ARG VERSION=unknown
ARG REVISION=unknown

LABEL org.opencontainers.image.title="crossfade" \
      org.opencontainers.image.description="Moves a live PostgreSQL application onto a new schema without stopping it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"

# As process 1 a Python program would not hear a signal before it has installed a handler, and nobody would reap what an
# alert's hook leaves behind.
COPY --from=build /usr/bin/tini-static /usr/bin/tini
COPY --from=build /opt/crossfade /opt/crossfade

# Configuration and mapping are mounted at /etc/crossfade, secrets (source__dsn, target__dsn) at /run/secrets.
ENV PATH=/opt/crossfade/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    CROSSFADE_CONFIG=/etc/crossfade/crossfade.toml

WORKDIR /etc/crossfade
USER 10001:10001
EXPOSE 9810
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 CMD ["crossfade", "healthcheck"]
ENTRYPOINT ["tini", "--", "crossfade"]
CMD ["run"]
