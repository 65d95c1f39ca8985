# SPDX-License-Identifier: Apache-2.0
"""The CNN, same weights, in TensorFlow: SavedModel, frozen graph, TFLite in f32 and int8. Channels are last: image f32 [N,8,8,1]."""

import shutil
import tempfile

import numpy as np

from common import MODELS, quiet_tensorflow, seed_everything

quiet_tensorflow()
import tensorflow as tf  # noqa: E402
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2  # noqa: E402

from checkpoints import cnn_weights, training_inputs  # noqa: E402


class DigitsCnn(tf.Module):
    """The network of nets.DigitsCnn after folding, over channels-last images."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        super().__init__(name="digits_cnn")
        self.mean = float(weights["mean"])
        self.std = float(weights["std"])
        self.kernels = [tf.Variable(weights[f"conv{i}.weight"].transpose(2, 3, 1, 0), name=f"conv{i}/kernel") for i in range(3)]
        self.biases = [tf.Variable(weights[f"conv{i}.bias"], name=f"conv{i}/bias") for i in range(3)]
        self.weight = tf.Variable(weights["linear.weight"].T, name="linear/kernel")
        self.bias = tf.Variable(weights["linear.bias"], name="linear/bias")

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 1], tf.float32, name="image")])
    def __call__(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        x = (image - self.mean) / self.std
        for i in range(3):
            x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, self.kernels[i], 1, "SAME"), self.biases[i]))
            if i == 1:
                x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        x = tf.reduce_mean(x, axis=[1, 2])
        return {"logits": tf.nn.bias_add(tf.matmul(x, self.weight), self.bias, name="logits")}


def main() -> None:
    seed_everything()
    net = DigitsCnn(cnn_weights())
    saved = MODELS / "digits_cnn_savedmodel"
    shutil.rmtree(saved, ignore_errors=True)
    options = tf.saved_model.SaveOptions(save_debug_info=False)
    tf.saved_model.save(net, str(saved), signatures=net.__call__, options=options)
    (saved / "fingerprint.pb").unlink(missing_ok=True)  # holds a random number; loaders do without it

    frozen = convert_variables_to_constants_v2(net.__call__.get_concrete_function())
    graph = frozen.graph.as_graph_def()
    graph.ClearField("library")
    kept = [node for node in graph.node if node.op not in ("Identity", "NoOp")]  # those that only tie the function's result to its variables' reads
    names = {node.name: node.input[0] for node in graph.node if node.op == "Identity"}
    for node in kept:
        for i, source in enumerate(node.input):
            while source in names:
                source = names[source]
            node.input[i] = source
    del graph.node[:]
    graph.node.extend(kept)
    (MODELS / "digits_cnn.frozen.pb").write_bytes(graph.SerializeToString(deterministic=True))

    images = np.ascontiguousarray(training_inputs("digits_cnn", 512).transpose(0, 2, 3, 1))
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(net, folder, signatures=net.__call__)
        (MODELS / "digits_cnn.tflite").write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ({"image": images[i : i + 1]} for i in range(len(images)))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        (MODELS / "digits_cnn.int8.tflite").write_bytes(converter.convert())


if __name__ == "__main__":
    main()
