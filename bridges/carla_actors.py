"""CARLA's blueprints: what an actor is, from its blueprint's name and attributes."""

from collections.abc import Mapping

from pipeline.objects import ObjectClass

_BASE_TYPES = {
    "car": ObjectClass.CAR,
    "van": ObjectClass.TRUCK,
    "truck": ObjectClass.TRUCK,
    "bus": ObjectClass.BUS,
    "motorcycle": ObjectClass.MOTORCYCLE,
    "bicycle": ObjectClass.CYCLIST,
}
_NAMES = {
    ObjectClass.CYCLIST: ("crossbike", "omafiets", "century", "bicycle"),
    ObjectClass.TRUCK: (
        "carlacola", "firetruck", "ambulance", "sprinter", "european_hgv", "truck", "vehicle.van",
        ".t2",
    ),
    ObjectClass.MOTORCYCLE: ("yamaha", "kawasaki", "harley", "vespa"),
    ObjectClass.BUS: ("fusorosa", "bus"),
}  # fmt: skip


def class_of(blueprint: str, attributes: Mapping[str, str]) -> ObjectClass | None:
    """``ObjectClass`` of a vehicle or a pedestrian; None: of anything else.

    Servers from 0.9.14 on say it themselves (``base_type``); before, names and wheels tell.
    """
    if blueprint.startswith("walker."):
        return ObjectClass.PERSON
    if not blueprint.startswith("vehicle."):
        return None
    said = _BASE_TYPES.get(attributes.get("base_type", "").lower())
    if said is not None:
        return said
    for kind, names in _NAMES.items():
        if any(name in blueprint and "cybertruck" not in blueprint for name in names):
            return kind
    two = attributes.get("number_of_wheels") == "2"
    return ObjectClass.MOTORCYCLE if two else ObjectClass.CAR
