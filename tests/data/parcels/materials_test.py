import pytest

from brittle_jax.data.parcels.materials import (
    _COMPOSITIONS,
    _MASS_ATTENUATION,
    ENERGIES_KEV,
    MATERIALS,
    linear_attenuation,
)


@pytest.mark.parametrize("material", [name for name in MATERIALS if name != "air"])
def test_the_shares_of_a_material_sum_to_one(material):
    _, shares = _COMPOSITIONS[material]
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("element", _MASS_ATTENUATION)
def test_coefficients_agree_with_an_independent_table(element, xraydb):
    """Elam, Ravel and Sieber, Radiation Physics and Chemistry 63 (2002)."""
    expected = [float(xraydb.mu_elam(element, 1000 * energy)) for energy in ENERGIES_KEV]
    assert _MASS_ATTENUATION[element] == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(
    ("material", "low", "high"),
    # NIST SRD 126, Table 4 (liquid water, polyethylene) and Table 3, times density.
    [("water", 0.2059, 0.1505), ("plastic", 0.94 * 0.1970, 0.94 * 0.1534), ("steel", 7.87 * 1.205, 7.87 * 0.1964)],
)
def test_linear_attenuation_agrees_with_published_mixtures(material, low, high):
    assert linear_attenuation(material) == pytest.approx((low, high), rel=2e-3)
