#!/usr/bin/env python3
"""What a binary costs next to a service: memory and CPU while nothing happens, what it adds to a request, and
its CPU for each request under load. Several binaries are set side by side, in turn.

nginx directly, and behind Firedrill over `tcp` and over `http`; wrk with one connection for the time of a
request, with 32 for the CPU. Needs wrk and nginx.

    docker/build target/image && python3 benches/sidecar.py target/image/usr/local/bin/firedrill
"""

import argparse
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from evidence import cpu_seconds, firedrill, nginx, one_round

UNITS = {"us": 1, "ms": 1e3, "s": 1e6}


def median_latency(port, seconds):
    command = ["wrk", "-t1", "-c1", "--latency", f"-d{seconds}s", f"http://127.0.0.1:{port}/"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    number, unit = re.search(r"50%\s+([\d.]+)(us|ms|s)", said).groups()
    return float(number) * UNITS[unit]


def resident(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kib = {key: int(value.split()[0]) for key, value in (l.split(":") for l in lines if l.startswith(("VmRSS", "RssAnon")))}
    return f"{kib['VmRSS'] / 1e3:.1f} MB resident, {kib['RssAnon'] / 1e3:.1f} MB of it its own"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binaries", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--idle", type=int, default=60, help="seconds in which nothing happens")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        upstream, direct = nginx(folder)
        running = {}
        try:
            for n, binary in enumerate(args.binaries):
                for protocol in ["tcp", "http"]:
                    way = (n, protocol)
                    at = folder / f"{n}-{protocol}"
                    running[way] = firedrill(binary.resolve(), at, direct, protocol=protocol)
            time.sleep(1)
            before = {way: cpu_seconds(process.pid) for way, (process, _) in running.items()}
            time.sleep(args.idle)
            for (n, protocol), (process, _) in running.items():
                if protocol == "http":
                    spent = (cpu_seconds(process.pid) - before[n, protocol]) * 1e3
                    print(f"{args.binaries[n]}: idle, {resident(process.pid)}; {spent:.0f} ms of CPU in {args.idle} s")
            times = {way: [] for way in [None, *running]}
            costs = {way: [] for way in running}
            for _ in range(args.rounds):
                times[None].append(median_latency(direct, args.seconds))
                for way, (process, port) in running.items():
                    times[way].append(median_latency(port, args.seconds))
                    costs[way].append(one_round(process, port, args.seconds)[1])
            print(f"directly: {min(times[None]):.1f} us a request")
            for n, protocol in running:
                way = (n, protocol)
                cost = statistics.median(costs[way])
                ratio = statistics.median(a / b for a, b in zip(costs[way], costs[0, protocol]))
                print(
                    f"{args.binaries[n]}, {protocol}: {min(times[way]):.1f} us a request; "
                    f"under load {cost:.1f} us of CPU a request, {ratio:.3f} of the first's"
                )
            process, _ = running[0, "http"]
            print(f"{args.binaries[0]}: after the load, {resident(process.pid)}")
        finally:
            for process, _ in running.values():
                process.terminate()
            upstream.terminate()
            upstream.wait()


if __name__ == "__main__":
    main()
