"""What the export command looks for by itself."""

from __future__ import annotations

import pytest

from seg_models.export.checks import CHECKED_IMAGES
from seg_models.export.command import validation_images
from seg_models.export.errors import ExportError
from seg_models.training.recipe import DataRecipe
from test.seg_models.data.layouts.test_camvid import camvid
from test.seg_models.data.test_folder import write_folder


@pytest.mark.parametrize(
    ("kind", "write"), [("camvid", camvid), ("folder", lambda root: write_folder(root, 11, "val"))]
)
def test_images_to_check_with_come_from_the_validation_split_however_it_lies(tmp_path, kind, write):
    write(tmp_path)
    images = validation_images(DataRecipe(roots=["nowhere"], val_roots=[str(tmp_path)], kind=kind))
    assert 1 <= len(images) <= CHECKED_IMAGES
    assert all(image.ndim == 3 and image.shape[-1] == 3 for image in images)


def test_data_that_is_not_there_is_said_with_the_way_out(tmp_path):
    with pytest.raises(ExportError, match="or give --images, a folder of real images to check with"):
        validation_images(DataRecipe(roots=[str(tmp_path / "gone")], kind="camvid"))
