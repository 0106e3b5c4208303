"""RegProxy (Zhang et al., 2022): `model`, the SLIC pilot of its Table 1 (`pilot`), and SLIC itself.

May import what `architectures` may. The way in is `seg_models.build.build_model("regproxy" | "regproxy_pilot", ...)`.
"""
