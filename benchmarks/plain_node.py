"""The plainest node that does the job: what most people would write first. The benchmark's named alternative.

One subscription, and in its callback everything: convert as cv_bridge does, resize, infer, resize back, publish. The
engine, its threads, the model and the DDS profile are the same as those of the real node.
"""

from __future__ import annotations

import argparse
from statistics import median
from time import perf_counter

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from seg_perception.engines.select import create_engine
from seg_perception.image_memory import keep_freed_memory
from seg_perception.model.model_file import read_model_info
from seg_perception.painting import Painter


class PlainNode(Node):
    """Segments in the callback.

    Args:
        model: deployment model.
        engine: kind of engine.
        threads, precision: of the engine.
        topic: of rgb8 images.
    """

    def __init__(self, model: str, engine: str, threads: int, precision: str, topic: str) -> None:
        super().__init__("segmentation")
        self.engine = create_engine(engine, read_model_info(model), threads, precision)
        self.engine.open()
        self.size = self.engine.info.input_size
        self.engine.infer(np.zeros((1, *self.size, 3), np.uint8))
        geometry = self.engine.info.geometry
        self.painter = None if geometry is None else Painter(geometry, threads or 2)
        if self.painter is not None:
            self.painter.warm_up()
        self.labels = self.create_publisher(Image, "~/labels", 10)
        self.superpixels = self.create_publisher(Image, "~/superpixels", 10)
        self.create_subscription(Image, topic, self.on_image, qos_profile_sensor_data)
        # Only for the benchmark: what the engine's own call took here.
        self.engine_ms: list[float] = []
        self.diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(0.5, self.tell_engine_time)
        self.get_logger().info("active: listening")

    def on_image(self, message: Image) -> None:
        """As cv_bridge's imgmsg_to_cv2 and cv2_to_imgmsg go about it."""
        image = np.ndarray((message.height, message.width, 3), np.uint8, bytes(message.data))
        resized = cv2.resize(image, self.size[::-1])
        start = perf_counter()
        outputs = self.engine.infer(resized[None])
        self.engine_ms.append(1e3 * (perf_counter() - start))
        if self.painter is not None:
            maps = outputs["association"][0], outputs["class_logits"][0]
            painted = self.painter.paint(*maps, self.size, confidence=False)
            labels, superpixels = painted.labels, painted.superpixels
        else:
            labels, superpixels = outputs["labels"][0], outputs["superpixels"][0].astype(np.uint16)
        self.publish(self.labels, message, "mono8", labels)
        self.publish(self.superpixels, message, "16UC1", superpixels)

    def tell_engine_time(self) -> None:
        """The median so far, under the name that the real node uses."""
        if self.engine_ms:
            value = KeyValue(key="stage_infer_ms", value=f"{median(self.engine_ms):.1f}")
            self.diagnostics.publish(DiagnosticArray(status=[DiagnosticStatus(name="plain", values=[value])]))

    def publish(self, publisher, message: Image, encoding: str, ids: np.ndarray) -> None:
        """Enlarge and send."""
        ids = cv2.resize(ids, (message.width, message.height), interpolation=cv2.INTER_NEAREST)
        answer = Image(header=message.header, height=message.height, width=message.width, encoding=encoding)
        answer.step = ids.nbytes // message.height
        answer.data.frombytes(ids.tobytes())
        publisher.publish(answer)


def main() -> None:
    """Run until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--image", default="/camera/image_raw")
    args = parser.parse_args()
    keep_freed_memory()
    rclpy.init()
    node = PlainNode(args.model, args.engine, args.threads, args.precision, args.image)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
