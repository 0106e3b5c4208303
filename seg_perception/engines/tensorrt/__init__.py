"""TensorRT: engines built once in a process of their own, kept in a cache, checked, and run.

`api` is the one file that knows the module (`tensorrt` or `tensorrt_rtx`) and its versions, `cuda` the one that calls
CUDA. The way in is `make.make_engine`.
"""
