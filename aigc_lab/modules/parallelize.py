"""How networks are split over devices. The networks themselves do not know."""

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from aigc_lab.nets.transformer import Transformer


def shard_blocks(network: Transformer, mesh: DeviceMesh) -> None:
    """Fully sharded data parallelism (FSDP2): parameters are gathered block by block. Does nothing twice."""
    if isinstance(network, FSDPModule):
        return
    for block in network.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)
