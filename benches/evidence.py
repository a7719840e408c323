#!/usr/bin/env python3
"""What evidence costs: throughput and CPU of one binary with evidence on, with a file besides, and off.

Interleaved rounds in one run, so that only ratios count: wrk -> Firedrill (`protocol: http`) -> nginx.
Needs wrk and nginx.

    cargo build --release && python3 benches/evidence.py [--rounds 9] [--seconds 2] [--no-file]

What is written to a file goes on to the disk while the next way is measured: `--no-file` leaves that one out.
"""

import argparse
import os
import re
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WAYS = {
    "off": "{ enabled: false }",
    "on": "{}",
    "on, and a file": "{ file: evidence.jsonl, rotate: { size: 64MiB, keep: 1 } }",
}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def reachable(port):
    for _ in range(500):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise SystemExit(f"nobody listens on {port}")


def nginx(folder):
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit;\n"
        "events { worker_connections 4096; }\n"
        "http { access_log off; keepalive_requests 100000000; server {\n"
        f"listen 127.0.0.1:{port}; location / {{ return 200 'ok'; }} }} }}\n"
    )
    path = os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin"
    command = ["nginx", "-c", str(config), "-p", str(folder)]
    process = subprocess.Popen(command, env={**os.environ, "PATH": path})
    reachable(port)
    return process, port


def firedrill(binary, folder, upstream, evidence="{}", protocol="http"):
    port = free_port()
    folder.mkdir()
    (folder / "firedrill.yaml").write_text(
        f"control: {{ listen: 127.0.0.1:0 }}\nevidence: {evidence}\nproxies:\n"
        f"- {{ name: p, listen: 127.0.0.1:{port}, upstream: 127.0.0.1:{upstream}, protocol: {protocol} }}\n"
    )
    command = [str(binary), "serve"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
    reachable(port)
    return process, port


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def one_round(process, port, seconds):
    before = cpu_seconds(process.pid)
    command = ["wrk", "-t1", "-c32", f"-d{seconds}s", f"http://127.0.0.1:{port}/"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    requests = int(re.search(r"(\d+) requests in", said).group(1))
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said).group(1))
    return rate, (cpu_seconds(process.pid) - before) / requests * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--no-file", action="store_true")
    args = parser.parse_args()
    ways = dict(list(WAYS.items())[:2]) if args.no_file else WAYS
    binary = ROOT / "target/release/firedrill"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        upstream, port = nginx(folder)
        running = {}
        try:
            for n, (way, evidence) in enumerate(ways.items()):
                running[way] = firedrill(binary, folder / str(n), port, evidence)
            seen = {way: [] for way in ways}
            for turn in range(args.rounds + 1):
                # Each in another order, and the first round to warm up.
                first = turn % len(ways)
                order = list(ways)[first:] + list(ways)[:first]
                for way in order:
                    result = one_round(*running[way], args.seconds)
                    if turn:
                        seen[way].append(result)
        finally:
            for process, _ in running.values():
                process.terminate()
            upstream.terminate()
            upstream.wait()
    off = seen["off"]
    for way, results in seen.items():
        rates = statistics.median(a[0] / b[0] for a, b in zip(results, off))
        costs = statistics.median(a[1] / b[1] for a, b in zip(results, off))
        rate = statistics.median(r for r, _ in results)
        print(f"{way:16} {rate:9.0f} requests/s  throughput {rates:.3f} of off, CPU a request {costs:.3f}")


if __name__ == "__main__":
    main()
