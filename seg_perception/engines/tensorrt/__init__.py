"""TensorRT: engines built once in a process of their own, kept in a cache, checked, and run.

`api` says how the versions of TensorRT differ, `building_calls` and `running_calls` make its calls, `cuda_runtime` those of
CUDA. The way in is `make.make_engine`.
"""
