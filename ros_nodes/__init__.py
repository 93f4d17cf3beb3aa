"""Thin rclpy nodes: parameters, topics and conversion around the libraries."""
