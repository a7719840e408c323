"""Scrapes the URLs that it is given, as OpenMetrics and as the classic text, with Prometheus' own
readers. Prints a JSON list: for each URL its samples by both."""

import json
import sys

import requests
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client import parser as classic

# As Prometheus 2.42 says it.
ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


def samples(families):
    found = []
    for family in families:
        for sample in family.samples:
            labels = dict(sample.labels)
            if "le" in labels:
                labels["le"] = repr(float(labels["le"]))
            like = sample.exemplar
            if like:
                like = {"labels": like.labels, "value": like.value, "at": float(like.timestamp)}
            # The readers do not agree on where the end of a counter's name belongs.
            family_name = family.name.removesuffix("_total")
            found.append(
                {
                    "family": family_name,
                    "type": family.type,
                    "help": family.documentation,
                    "name": sample.name,
                    "labels": labels,
                    "value": sample.value,
                    "exemplar": like,
                }
            )
    return found


def scrape(url):
    asked = requests.get(url, headers={"Accept": ACCEPT}, timeout=10)
    told = asked.headers["Content-Type"]
    assert told == "application/openmetrics-text; version=1.0.0; charset=utf-8", told
    plain = requests.get(url, timeout=10)
    told = plain.headers["Content-Type"]
    assert told == "text/plain; version=0.0.4", told
    return {
        "openmetrics": samples(openmetrics.text_string_to_metric_families(asked.text)),
        "classic": samples(classic.text_string_to_metric_families(plain.text)),
        "text": plain.text,
    }


print(json.dumps([scrape(url) for url in sys.argv[1:]]))
