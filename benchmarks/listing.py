"""Measure time and memory of listing and planning a corpus of a million objects, without reading any.

    python -m benchmarks.listing [--objects 1000000]

The server is a process of this script that answers ListObjectsV2 with pages of 1000 generated keys, as S3 does. The
measurement covers paging, parsing, sorting, the digest, and the plans of the parts as they are sent to workers. Prints
each, and the peak memory of this process.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pickle
import resource
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from urllib.parse import parse_qs, urlsplit

PAGE = 1000


def serve(count: int, send: Connection) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            body = page(int(query.get("continuation-token", ["0"])[0]), count).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    send.send(server.server_address[1])
    server.serve_forever()


def page(start: int, count: int) -> str:
    stop = min(count, start + PAGE)
    items = "".join(
        f"<Contents><Key>photographs/{i // 4096:06d}/{i:09d}.jpg</Key><Size>{100_000 + i % 977}</Size>"
        f'<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"{i:032x}"</ETag>'
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for i in range(start, stop)
    )
    more = f"<NextContinuationToken>{stop}</NextContinuationToken>" if stop < count else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>bucket</Name><Prefix>photographs/</Prefix><KeyCount>{stop - start}</KeyCount><MaxKeys>{PAGE}</MaxKeys>"
        f"<IsTruncated>{str(stop < count).lower()}</IsTruncated>{more}{items}</ListBucketResult>"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=1_000_000)
    count = parser.parse_args().objects
    receive, send = multiprocessing.Pipe(duplex=False)
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(count, send), daemon=True)
    server.start()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{receive.recv()}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    from benchmarks.startup import processor
    from hfd.config.presets import load_config
    from pipelines.corpus.listing import list_corpus
    from pipelines.prepare.step import plan_shards

    def told(name: str, started: tuple[float, float]) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        seconds, used = time.perf_counter() - started[0], time.process_time() - started[1]
        print(f"{name:<28} {seconds:7.1f} s, {used:.1f} s of processor time; at most {peak:.0f} MiB so far", flush=True)

    def now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    print(processor())
    config = load_config("coco256", ["data.uri=s3://bucket/photographs"])
    started = now()
    told("nothing yet", started)
    corpus = list_corpus(
        config.data.uri,
        setting="data.uri",
        on_progress=lambda done, _: print(f"\r{done}", end="\r", file=sys.stderr, flush=True),
    )
    assert len(corpus.photos) == count
    told("list and sort", started)
    started = now()
    digest = corpus.digest
    told(f"digest {digest[:8]}", started)
    started = now()
    sizes = [len(pickle.dumps(plan)) for plan in plan_shards(config, corpus, None)]
    told(f"{len(sizes)} parts, {sum(sizes) / 2**20:.0f} MiB sent", started)


if __name__ == "__main__":
    main()
