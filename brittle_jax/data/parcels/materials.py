"""How strongly materials attenuate X-rays at the scanner's two energies.

The attenuation of a mixture is the mass-weighted sum over its elements. Those are from J. H. Hubbell and S. M. Seltzer,
"Tables of X-Ray Mass Attenuation Coefficients", NIST Standard Reference Database 126, Table 3.
"""

ENERGIES_KEV = (60, 150)  # effective energies of the low and the high beam

_MASS_ATTENUATION = {  # of each element, in cm²/g, at both energies
    "H": (0.3260, 0.2651),
    "C": (0.1753, 0.1347),
    "N": (0.1817, 0.1353),
    "O": (0.1907, 0.1361),
    "Na": (0.2268, 0.1335),
    "Al": (0.2778, 0.1378),
    "Si": (0.3207, 0.1448),
    "Ca": (0.6578, 0.1674),
    "Fe": (1.205, 0.1964),
    "Cu": (1.593, 0.2217),
}

_CELLULOSE = {"H": 0.0622, "C": 0.4445, "O": 0.4933}
_COMPOSITIONS = {  # density in g/cm³, and mass fraction of each element
    "air": (0.0, {}),
    "water": (1.0, {"H": 0.1119, "O": 0.8881}),
    "cardboard": (0.15, _CELLULOSE),  # corrugated, so mostly air
    "paper": (0.8, _CELLULOSE),
    "textile": (0.2, _CELLULOSE),  # folded cotton
    "plastic": (0.94, {"H": 0.1437, "C": 0.8563}),  # polyethylene
    "polymer": (1.14, {"H": 0.0980, "C": 0.6368, "N": 0.1238, "O": 0.1414}),  # nylon 6
    "glass": (2.5, {"O": 0.4600, "Si": 0.3365, "Na": 0.1039, "Ca": 0.0996}),  # soda-lime
    "aluminium": (2.70, {"Al": 1.0}),
    "circuit": (1.9, {"H": 0.03, "C": 0.30, "O": 0.25, "Si": 0.20, "Al": 0.07, "Cu": 0.15}),  # boards and cells
    "cable": (2.5, {"H": 0.0575, "C": 0.3425, "Cu": 0.60}),  # strands in polyethylene
    "copper": (8.96, {"Cu": 1.0}),
    "steel": (7.87, {"Fe": 1.0}),
}

MATERIALS = tuple(_COMPOSITIONS)


def linear_attenuation(material: str) -> tuple[float, float]:
    """Returns the linear attenuation coefficients μ of a material at each of `ENERGIES_KEV`, in 1/cm."""
    density, shares = _COMPOSITIONS[material]
    low, high = (
        density * sum(share * _MASS_ATTENUATION[element][energy] for element, share in shares.items())
        for energy in (0, 1)
    )
    return low, high
