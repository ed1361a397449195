"""Flower's settings in the compose project: user `admin`, whose password is the administrator's API key."""

from pathlib import Path

basic_auth = ["admin:" + Path("/run/secrets/admin_key").read_text("utf-8").strip()]
max_tasks = 1000
purge_offline_workers = 60
