"""Random run names and ids, from os.urandom: a script's own seeded `random` stays untouched."""

import os

_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
RUN_ID_LETTERS = 10

_ADJECTIVES = (  # noqa: SIM905 - more readable than 180 quoted words
    "able agile airy alert amber ample apt arctic ashen autumn azure balmy bold bonny brave breezy "
    "bright brisk calm candid careful cheery chilly civil classic clear clever coastal cobalt cool "
    "coral cosmic cosy crimson crisp curious dapper daring dawn deep deft dewy dusky eager early "
    "earnest easy elder electric emerald even fair famous fancy fearless fine firm fleet fluent fond "
    "fresh frosty gentle giant gilded glad gleaming golden good graceful grand green hardy hazel hearty "
    "helpful hidden honest humble indigo ivory jade jaunty jolly jovial keen kind lasting leafy level "
    "light lively lofty loyal lucid lucky lunar mellow merry mild misty modest mossy neat nimble noble "
    "northern novel olive open orange patient pearly placid plain playful plucky polar polite prime "
    "proud quick quiet rapid rare ready regal robust rosy ruby rustic sage sandy scarlet serene sharp "
    "shining silent silver sincere sleek smart smooth snowy solar solid southern spry stable starry "
    "steady still stout sturdy subtle sunny swift tender tidal tidy tranquil trusty upbeat upper "
    "valiant velvet vernal violet vivid warm wild willing wise witty wooded young zesty"
).split()

_NOUNS = (  # noqa: SIM905
    "acorn alder anchor antler apple arbor arch aspen aurora badger bay beacon beaver beech bell birch "
    "bison bloom bluff bramble breeze bridge brook canyon caravan cedar cliff clover cloud comet "
    "compass condor cove crane creek crest cricket crocus current cypress daisy dale dawn delta dingo "
    "dolphin dove dune eagle echo elk elm ember falcon fern ferry field finch fir fjord flame flint "
    "forest fountain fox galaxy garden garnet gecko geyser glacier glade gorge granite grove gull "
    "harbor hare harvest hawk hazel heath heron hill hollow horizon ibis iris island ivy jasper juniper "
    "kestrel kite lagoon lake lantern larch lark laurel leaf ledge lichen lily linden lotus lynx magnet "
    "maple marble marlin marsh marten meadow mesa meteor mill mint moon moose moss moth mountain nebula "
    "nectar oak oasis ocean orbit orchard orchid osprey otter owl oyster panda path peak pebble pelican "
    "pepper petal pine planet plateau pond poplar poppy prairie prism quail quarry quartz quill rain "
    "raven reed reef ridge river robin rocket rook saffron sail salmon sparrow spruce spring star stone "
    "stork stream summit swan thicket thistle thunder tide tiger topaz torch trail tulip tundra valley "
    "violet walnut walrus wave willow wind wren yarrow"
).split()


def random_name() -> str:
    """Return a name such as brisk-otter-417."""
    return "%s-%s-%d" % (_ADJECTIVES[_below(len(_ADJECTIVES))], _NOUNS[_below(len(_NOUNS))], _below(1000))


def random_id() -> str:
    """Return a run id: 10 of a-z and 0-9, more than 51 random bits."""
    return "".join(_ID_LETTERS[_below(len(_ID_LETTERS))] for _ in range(RUN_ID_LETTERS))


def _below(bound: int) -> int:
    # 48 bits against bounds below 2**10: the bias is below 2**-38.
    return int.from_bytes(os.urandom(6), "big") % bound
