# The service in a container: slim, without root, with a root file system that can be read-only.
#
#   docker build -t mien .
#   docker run --rm -p 8000:8000 --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#     -e MIEN_SERVE_TOKEN="$(openssl rand -hex 24)" mien
#
# .ci/image_check.py tries these steps without a container engine.
FROM node:22-slim AS web
COPY web-build /source/web-build
# what private mode runs in the browser
RUN cd /source/web-build && npm ci --ignore-scripts --no-audit --no-fund && npm run build

FROM python:3.12-slim AS build
COPY . /source
COPY --from=web /source/src/mien/web/static/vendor /source/src/mien/web/static/vendor
RUN python -m venv /opt/mien && /opt/mien/bin/pip install --no-cache-dir /source

FROM python:3.12-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin mien
COPY --from=build /opt/mien /opt/mien
ENV PATH=/opt/mien/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 MIEN_HOME=/tmp/mien
USER mien
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
# Without a token mien refuses to listen on other addresses; add --public to let everybody in.
ENTRYPOINT ["mien", "serve", "--host", "0.0.0.0"]
