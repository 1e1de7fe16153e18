"""What TensorFlow fuses into the convolutions of a U-Net."""

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.framework import test_util
from tensorflow.python.grappler import tf_optimizer
from tensorflow.python.training import saver

from keras_genmodels.networks import denoisers

SHAPE = (8, 8, 1)
BLOCKS = 2
DEVICE = "/job:localhost/replica:0/task:0/device:CPU:0"


@pytest.mark.skipif(not test_util.IsMklEnabled(), reason="requires oneDNN")
def test_sums_of_blocks_are_fused_in_batches_of_any_size():
    """The sum of a block's convolution and its input is no pass of its own."""
    network = denoisers.unet(SHAPE, filters=(8,), blocks=BLOCKS)
    nodes = optimized(tf.function(lambda x, level: network([x, level])))
    fused = [node.attr["fused_ops"].list.s for node in nodes]
    assert sum(b"Add" in operations for operations in fused) == BLOCKS


def optimized(function):
    """Returns the nodes that run for a batch of unknown size."""
    concrete = function.get_concrete_function(
        tf.TensorSpec((None, *SHAPE)), tf.TensorSpec((None,))
    )
    graph = concrete.graph
    meta = saver.export_meta_graph(graph_def=graph.as_graph_def(), graph=graph)
    outputs = meta.collection_def["train_op"].node_list.value
    outputs.extend(it.name for it in concrete.outputs)
    for node in meta.graph_def.node:
        node.device = DEVICE
    config = config_pb2.ConfigProto()
    config.graph_options.rewrite_options.min_graph_nodes = -1
    return tf_optimizer.OptimizeGraph(config, meta).node
