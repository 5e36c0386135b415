"""What loading a data set depends on. Each field has the name of a setting under `data`, and its meaning."""

import dataclasses

from brittle_jax.data.patches import PatchSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParcelSettings:
    """The embedded parcels, which are synthetic.

    Attributes:
        num_normal: how many parcels hold everyday goods alone.
        num_threat: how many also hold a pistol.
        side_pixels: length of the longest side of the longest parcel.
        seed: of the parcels.
    """

    num_normal: int
    num_threat: int
    side_pixels: int
    seed: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Where a data set lies and how it is read.

    Attributes:
        dir: where prepared data sets are kept, tfds's `data_dir`; empty: tfds's own default.
        path: the folder or table of this data set's files; empty if none is named.
        view_suffixes: of your own X-ray parcels: how the file names of each view end, comma-separated; empty if there
            is only one view.
        compass_kind: of COMPASS-XP: which of its kinds of image.
        on_bad_image: "fail" if files that cannot be read are an error, "skip" if they are left out.
        max_image_pixels: larger pictures are refused before they are decoded.
        intensity_range: the values that become black and white in files of more than 8 bits; None: the files say.
        stand_in: whether synthetic images stand in for a missing data set.
        image_size_pixels: side of the square images of whole pictures.
        patches: how parcels are cut into images.
        parcels: the embedded parcels.
    """

    dir: str
    path: str
    view_suffixes: str
    compass_kind: str
    on_bad_image: str
    max_image_pixels: int
    intensity_range: tuple[float, float] | None
    stand_in: bool
    image_size_pixels: int
    patches: PatchSettings
    parcels: ParcelSettings
