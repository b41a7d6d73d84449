"""A Ray cluster of three nodes on this machine, one of which goes away in the middle of a job. Run by test_cluster.py.

python tests/batch/lose_node.py SOURCE OUT MODEL SHARD_IMAGES
"""

import os
import sys
from functools import partial

from mien.batch import cluster, job, parts
from mien.batch.job import Settings
from mien.batch.stores import Folder
from mien.batch.work import Done
from tests.batch.conftest import Silent

os.environ.update({**cluster.QUIET, "RAY_AUTH_MODE": "disabled"})

from ray.cluster_utils import Cluster

OBJECT_STORE_BYTES = 80 << 20


def main() -> None:
    """Begin on two workers, remove the node of one when five shards have landed, and finish."""
    source, output, model, shard_images = sys.argv[1:]
    head = {"num_cpus": 0, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    workers = [nodes.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES) for _ in range(2)]
    nodes.wait_for_nodes()

    class Remover(Silent):
        """Takes a node away in the middle."""

        def done(self, news: Done) -> None:
            super().done(news)
            if len(self.news) == 5:
                nodes.remove_node(workers[0], allow_graceful=False)
                landed = len(parts.finished(Folder(output + job.PARTS_SUFFIX)))
                sys.stdout.write(f"removed a node: {landed} shards had landed\n")

    settings = Settings(source=source, output=output, model=model, detector="none", shard_images=int(shard_images))
    engine = partial(cluster.run, cluster=cluster.ClusterSettings(address=nodes.address))
    try:
        job.run(settings, engine, watch=Remover())
    finally:
        nodes.shutdown()


if __name__ == "__main__":
    main()
