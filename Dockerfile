# One image for every process; docker-compose.yml tells each what to run.
FROM python:3.11-slim AS build
WORKDIR /app
RUN python -m venv /venv
COPY requirements.txt .
RUN /venv/bin/pip install --no-cache-dir -r requirements.txt

FROM python:3.11-slim
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --create-home --uid 10001 saga
WORKDIR /app
COPY --from=build /venv /venv
COPY --chown=saga . .
USER saga
CMD ["gunicorn", "sagaproject.wsgi:application", "--bind=0.0.0.0:8000", "--worker-class=gthread", "--threads=64", "--keep-alive=75", "--no-control-socket"]
