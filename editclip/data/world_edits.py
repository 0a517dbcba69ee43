"""The edit programs of the procedural world: fixed parameters, several wordings, a rule from scene to scene.

An edit type of the benchmark is one program, as dog to cat is one type of TOP-Bench.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from editclip.data.world_scene import (
    BACKGROUNDS,
    CELLS,
    COLOURS,
    SHAPES,
    STYLES,
    TEXTURES,
    WEATHERS,
    Scene,
    Thing,
    article,
)

FAMILIES = (
    "colour",
    "texture",
    "replacement",
    "addition",
    "removal",
    "size",
    "deformation",
    "style",
    "background",
    "compound",
)
UNSEEN_SHARE = 0.2  # of program x object combinations, kept out of all training data

_LOOKS = {
    "greyscale": ("make it black and white", "convert it to greyscale", "remove all the colors"),
    "sepia": ("make it sepia", "turn it into a sepia photo", "give it a brown sepia tone"),
    "negative": ("make it a negative", "invert the colors", "turn it into a film negative"),
    "night": ("make it night", "turn day into night", "make it dark like at midnight"),
    "poster": ("posterize it", "reduce it to a few flat colors", "make it a flat poster"),
    "sketch": ("make it a pencil sketch", "draw it with a pencil", "turn it into a line drawing"),
    "blur": ("blur it", "make it out of focus", "make the picture blurry"),
    "mosaic": ("pixelate it", "turn it into a mosaic", "make it out of big square pixels"),
    "sunset": ("make it sunset", "give it warm evening light", "bathe it in the light of dusk"),
    "fog": ("make it foggy", "cover it in mist", "add thick fog"),
    "blueprint": ("make it a blueprint", "turn it into a technical drawing", "draw it as white lines on blue paper"),
    "pop_art": ("make it pop art", "print it in pink and yellow", "turn it into a Warhol print"),
    "vintage": ("make it vintage", "make it look like a faded old photo", "give it a retro look"),
    "night_vision": ("view it through night vision goggles", "make everything glow green", "use a night vision camera"),
    "thermal": ("view it with a thermal camera", "turn it into a heat map", "make it infrared"),
    "neon": ("make it neon", "draw it with glowing neon lines", "turn it into a neon sign"),
}
_SKIES = {
    "sun": ("add a sun", "let the sun shine", "put a bright sun in the sky"),
    "rainbow": ("add a rainbow", "put a rainbow in the sky", "let a rainbow appear"),
    "rain": ("make it rain", "add rain", "let rain fall"),
    "snowfall": ("make it snow", "add falling snowflakes", "let snow fall"),
    "frame": ("add a golden frame", "put it in a picture frame", "frame the picture"),
}
_MATERIALS = {
    "striped": ("make the {} striped", "put stripes on the {}", "cover the {} with stripes"),
    "spotted": ("make the {} spotted", "put dots on the {}", "cover the {} with polka dots"),
    "checkered": ("make the {} checkered", "put a checkerboard on the {}", "cover the {} with checks"),
    "glass": ("make the {} out of glass", "turn the {} into glass", "make the {} transparent"),
}
_VIEWS = {
    "meadow": "a meadow",
    "beach": "a beach",
    "desert": "a desert",
    "snow": "a snowy field",
    "space": "outer space",
    "sea": "the deep sea",
    "wall": "a brick wall",
    "sunrise": "a pink sunrise",
}
_SIZES = {
    "big": ("make the {} bigger", "enlarge the {}", "let the {} grow"),
    "small": ("make the {} smaller", "shrink the {}", "make the {} tiny"),
}
_DEFORMATIONS = {
    "stretched": ("stretch the {}", "make the {} tall and thin", "pull the {} upwards"),
    "flattened": ("flatten the {}", "make the {} short and wide", "squash the {}"),
    "tilted": ("tilt the {}", "rotate the {}", "lean the {} over"),
}
_ROUND = ("ball", "ring")  # look the same when tilted


@dataclass(frozen=True)
class Edit:
    """One program.

    Attributes:
        id: unique name, also the edit type's folder name in a benchmark.
        wordings: instructions that mean it; the first is the benchmark's.
        apply: the edited scene, or None where the program does not fit the scene.
        wants: attributes that the first thing of a fitting scene has.
        parts: the programs that it is made of, in this order; none of a simple one.
    """

    id: str
    family: str
    wordings: tuple[str, ...]
    apply: Callable[[Scene], Scene | None]
    wants: Mapping[str, str] = field(default_factory=dict)
    parts: tuple["Edit", ...] = ()

    @property
    def instructions(self) -> tuple[str, ...]:
        """The benchmark's wording of each part, or of the whole where it has none."""
        return tuple(part.wordings[0] for part in self.parts) or self.wordings[:1]

    def unseen(self, scene: Scene) -> bool:
        """Whether `scene` holds a thing (shape and colour) that training never shows under this program."""
        return any(_held_out(self.id, t.shape, t.colour) for t in scene.things)


@functools.cache
def _held_out(edit: str, shape: str, colour: str) -> bool:
    first = hashlib.sha256(f"{edit}|{shape}|{colour}".encode()).digest()[0]
    return first < UNSEEN_SHARE * 256


def _change_thing(target: str, **changes: Any) -> Callable[[Scene], Scene | None]:
    """A rule that changes attributes of the thing of the shape `target`."""

    def apply(scene: Scene) -> Scene | None:
        others = [t for t in scene.things if t.shape != target]
        if len(others) == len(scene.things) or any(t.shape == changes.get("shape") for t in others):
            return None
        things = tuple(replace(t, **changes) if t.shape == target else t for t in scene.things)
        return replace(scene, things=things)

    return apply


def _add(thing: Thing) -> Callable[[Scene], Scene | None]:
    def apply(scene: Scene) -> Scene | None:
        if any(t.cell == thing.cell or t.shape == thing.shape for t in scene.things):
            return None
        return replace(scene, things=(*scene.things, thing))

    return apply


def _remove(attribute: str, value: str) -> Callable[[Scene], Scene | None]:
    return lambda scene: replace(scene, things=tuple(t for t in scene.things if getattr(t, attribute) != value))


def _change_scene(**changes: Any) -> Callable[[Scene], Scene | None]:
    return lambda scene: replace(scene, **changes)


def together(family: str, *parts: Edit) -> Edit:
    """The program of a family that is several programs, one after the other: none of which may do nothing."""

    def apply(scene: Scene) -> Scene | None:
        for part in parts:
            after = part.apply(scene)
            if after is None or after == scene:
                return None
            scene = after
        return scene

    said = zip(*(part.wordings for part in parts), strict=True)
    wordings = tuple(f"{', '.join(earlier)} and {last}" for *earlier, last in said)
    wants = next((part.wants for part in parts if part.wants), {})
    return Edit("_and_".join(part.id for part in parts), family, wordings, apply, wants, parts)


def _fill(templates: tuple[str, ...], *words: str) -> tuple[str, ...]:
    return tuple(t.format(*words) for t in templates)


def _colour(shape: str, colour: str) -> Edit:
    wordings = _fill(("make the {} {}", "turn the {} {}", "paint the {} {}"), shape, colour)
    return Edit(f"colour_{shape}_{colour}", "colour", wordings, _change_thing(shape, colour=colour), {"shape": shape})


def _replacement(old: str, new: str) -> Edit:
    templates = ("replace the {} with {} {}", "turn the {} into {} {}", "swap the {} for {} {}")
    wordings = _fill(templates, old, article(new), new)
    return Edit(f"replacement_{old}_{new}", "replacement", wordings, _change_thing(old, shape=new), {"shape": old})


def _addition(shape: str, colour: str, cell: str) -> Edit:
    templates = ("add {} {} {} at the {}", "put {} {} {} in the {} corner", "place {} {} {} at the {}")
    wordings = _fill(templates, article(colour), colour, shape, cell)
    name = f"addition_{colour}_{shape}_{cell.replace(' ', '_')}"
    return Edit(name, "addition", wordings, _add(Thing(shape, colour, cell)))


def _removal(attribute: str, value: str) -> Edit:
    noun = value if attribute == "shape" else f"{value} thing"
    wordings = _fill(("remove the {}", "delete the {}", "take away the {}"), noun)
    return Edit(f"removal_{value}", "removal", wordings, _remove(attribute, value), {attribute: value})


def _background(name: str) -> Edit:
    templates = ("change the background to {}", "put {} in the background", "make {} the new background")
    wordings = _fill(templates, _VIEWS[name])
    return Edit(f"background_{name}", "background", wordings, _change_scene(background=name))


def _style(name: str) -> Edit:
    return Edit(f"style_{name}", "style", _LOOKS[name], _change_scene(style=name))


def _compound(first: Edit, second: Edit) -> Edit:
    return together("compound", first, second)


def _compounds() -> list[Edit]:
    """Pairs of programs, spread evenly over the vocabulary by fixed strides."""
    colours, backgrounds, styles = tuple(COLOURS), tuple(BACKGROUNDS), tuple(STYLES)
    edits = []
    for i, shape in enumerate(SHAPES):
        other, colour = SHAPES[(i + 4) % len(SHAPES)], colours[(3 * i + 1) % len(colours)]
        background = _background(backgrounds[(5 * i + 2) % len(backgrounds)])
        edits.append(_compound(_colour(shape, colour), background))
        edits.append(_compound(_removal("shape", shape), _background(backgrounds[i % len(backgrounds)])))
        edits.append(_compound(_replacement(shape, other), _colour(other, colours[(3 * i + 4) % len(colours)])))
        edits.append(_compound(_colour(shape, colours[(3 * i + 6) % len(colours)]), _style(styles[i])))
    for i, style in enumerate(styles):
        edits.append(_compound(_background(backgrounds[(3 * i + 1) % len(backgrounds)]), _style(style)))
    return edits


@functools.cache
def programs() -> Mapping[str, tuple[Edit, ...]]:
    """All programs by family, in a fixed order."""
    colours, cells = tuple(COLOURS), tuple(CELLS)
    edits = [_colour(shape, colour) for shape in SHAPES for colour in colours]
    for i, shape in enumerate(SHAPES):
        for texture in TEXTURES:
            wordings = _fill(_MATERIALS[texture], shape)
            change = _change_thing(shape, texture=texture)
            edits.append(Edit(f"texture_{shape}_{texture}", "texture", wordings, change, {"shape": shape}))
        for size, templates in _SIZES.items():
            change = _change_thing(shape, size=size)
            edits.append(Edit(f"size_{shape}_{size}", "size", _fill(templates, shape), change, {"shape": shape}))
        for form, templates in _DEFORMATIONS.items():
            if form == "tilted" and shape in _ROUND:
                continue
            wordings, change = _fill(templates, shape), _change_thing(shape, form=form)
            edits.append(Edit(f"deformation_{shape}_{form}", "deformation", wordings, change, {"shape": shape}))
        edits += [_replacement(shape, SHAPES[(i + step) % len(SHAPES)]) for step in (1, 2, 3, 5)]
        edits += [_addition(shape, colours[(i + 2 * k) % len(colours)], cells[(i + k) % len(cells)]) for k in range(4)]
        edits.append(_removal("shape", shape))
    edits += [Edit(f"addition_{w}", "addition", _SKIES[w], _change_scene(weather=w)) for w in WEATHERS]
    edits += [_removal("colour", colour) for colour in COLOURS]
    everything = ("remove everything", "clear the scene", "leave only the background")
    edits.append(Edit("removal_everything", "removal", everything, _change_scene(things=())))
    edits += [_background(name) for name in BACKGROUNDS]
    edits += [_style(name) for name in STYLES]
    edits += _compounds()
    return {family: tuple(e for e in edits if e.family == family) for family in FAMILIES}
