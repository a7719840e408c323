"""Payment: charges a key once, and keeps that in PostgreSQL."""

import os
from contextlib import closing

import psycopg2

from service import serve


def ask(sql, *values):
    with closing(psycopg2.connect(os.environ["DATABASE"])) as database:
        with database, database.cursor() as cursor:
            cursor.execute(
                "create table if not exists charges (key text primary key, amount int, asked int)"
            )
            cursor.execute(sql, values)
            return cursor.fetchone()


def authorize(request, key):
    # Asked again, it answers the same and charges nothing.
    (asked,) = ask(
        "insert into charges values (%s, %s, 1)"
        " on conflict (key) do update set asked = charges.asked + 1 returning asked",
        key,
        request.body["amount"],
    )
    return 200, {"paid": True, "key": key, "asked": asked}


def charges(request):
    (count, asked) = ask("select count(*), coalesce(sum(asked), 0) from charges")
    return 200, {"charges": count, "asked": asked}


serve(
    8001,
    {
        ("POST", "authorize"): authorize,
        ("GET", "charges"): charges,
        ("GET", "health"): lambda request: (200, {"ok": ask("select true")[0]}),
    },
)
