"""Rendered indoor views with exact labels: `python -m seg_models.data.rooms --help`.

A data tool with an environment of its own (bpy, infinigen; see requirements.txt beside this file). Only the modules that
the worker process imports need bpy: assets, materials, shell, scene, render, worker. Imports nothing of the package. The
way in is the command, `cli.main`.
"""
