// Package names makes up names for containers that were given none: an
// adjective and a noun, as in "calm_garnet". The nouns are minerals, rocks and
// landforms; none is a person.
package names

import (
	"math/rand/v2"
	"strconv"
)

var adjectives = [...]string{
	"agile", "amber", "ample", "azure", "bold", "brave", "bright", "brisk", "calm", "candid",
	"clear", "clever", "cool", "cosy", "crisp", "deep", "deft", "eager", "early", "easy",
	"fair", "fast", "fine", "firm", "fluent", "fond", "frank", "fresh", "gentle", "glad",
	"golden", "grand", "green", "handy", "happy", "hardy", "honest", "jolly", "keen", "kind",
	"late", "lively", "loyal", "lucid", "lucky", "mellow", "merry", "mild", "modest", "neat",
	"nimble", "noble", "patient", "plain", "polite", "proud", "quick", "quiet", "rapid", "ready",
	"rosy", "round", "sandy", "serene", "sharp", "shiny", "silent", "silver", "simple", "sleek",
	"smooth", "snug", "solid", "spare", "speedy", "steady", "still", "sturdy", "sunny", "swift",
	"tender", "tidy", "tranquil", "trusty", "upbeat", "vivid", "warm", "wise", "witty", "young",
}

var nouns = [...]string{
	"agate", "alabaster", "amethyst", "andesite", "apatite", "aragonite", "azurite", "barite", "basalt", "beryl",
	"biotite", "bluff", "boulder", "breccia", "butte", "calcite", "canyon", "cavern", "chalk", "chert",
	"chlorite", "cinnabar", "citrine", "clay", "cliff", "cobble", "copper", "coral", "corundum", "crag",
	"crystal", "delta", "diamond", "diorite", "dolomite", "dune", "emerald", "epidote", "feldspar", "fjord",
	"flint", "fluorite", "gabbro", "galena", "garnet", "geode", "geyser", "glacier", "gneiss", "granite",
	"graphite", "gravel", "gypsum", "halite", "hematite", "hornblende", "island", "jade", "jasper", "kaolin",
	"lagoon", "lapis", "lava", "limestone", "magnetite", "malachite", "marble", "meadow", "mesa", "moraine",
	"mudstone", "obsidian", "olivine", "onyx", "opal", "pebble", "peridot", "plateau", "prairie", "pumice",
	"pyrite", "quartz", "ridge", "rutile", "sandstone", "sapphire", "schist", "shale", "slate", "spinel",
	"summit", "talc", "topaz", "tuff", "tundra", "turquoise", "valley", "zeolite", "zinc", "zircon",
}

// Random makes up a name. From the second attempt on it carries a number, so
// that a caller who finds names taken soon finds one that is free.
func Random(attempt int) string {
	name := adjectives[rand.IntN(len(adjectives))] + "_" + nouns[rand.IntN(len(nouns))]
	if attempt > 0 {
		name += strconv.Itoa(rand.IntN(10 * attempt))
	}
	return name
}
