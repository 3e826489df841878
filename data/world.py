"""Wendle Vale, the small invented world of all shipped text: each fact in one place."""

from dataclasses import dataclass

from stream import Stream

VALE, RIVER = "Wendle Vale", "the river Wendle"
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")


@dataclass(frozen=True)
class Village:
    name: str
    place: str  # where it lies, after "lies"
    landmark: str
    houses: int
    market_day: str
    maker: str  # of which craft it is known
    dish: str
    keeps: str  # animal that most houses keep
    festival: str
    month: str
    custom: str  # what people do on the festival

    @property
    def the_landmark(self):
        return "the " + self.landmark.split(maxsplit=1)[1]


@dataclass(frozen=True)
class Craft:
    maker: str
    work: str
    product: str
    products: str
    material: str
    tool: str
    steps: tuple[str, str, str]


@dataclass(frozen=True)
class Animal:
    name: str
    plural: str
    eats: str
    home: str
    habit: str
    use: str  # why people like to have it near


@dataclass(frozen=True)
class Dish:
    name: str
    ingredients: tuple[str, str, str]
    minutes: int
    steps: tuple[str, str, str]


@dataclass(frozen=True)
class Season:
    name: str
    weather: str
    sign: str
    work: str
    joy: str
    care: str  # advice


@dataclass(frozen=True)
class Good:
    name: str
    plural: str
    price: int  # in pennies
    is_food: bool = False


@dataclass(frozen=True)
class Person:
    name: str
    woman: bool
    age: int
    job: str
    village: str
    pet: str
    pet_name: str
    hobby: str

    @property
    def first(self):
        return self.name.split()[0]

    @property
    def he(self):
        return "she" if self.woman else "he"

    @property
    def his(self):
        return "her" if self.woman else "his"

    @property
    def him(self):
        return "her" if self.woman else "him"


VILLAGES = (
    Village("Aldermoor", "on the wet meadows in the south", "an old stone bridge", 84, "Monday",
            "basket maker", "leek pie", "goose", "Willow Day", "March",
            "cut the first willow rods and race small boats of bark"),
    Village("Brindleford", "where the road crosses the river", "a ford with nine flat stones", 61,
            "Tuesday", "potter", "trout soup", "duck", "Stone Walk", "June",
            "walk across the nine stones with a full cup of water"),
    Village("Coldwell", "high up under the north hill", "a deep well with a green roof", 37,
            "Wednesday", "weaver", "barley stew", "sheep", "Wool Night", "May",
            "shear the last sheep by lantern light and dance"),
    Village("Dunmere", "beside a small round lake", "a boat house painted blue", 52, "Thursday",
            "boat builder", "smoked eel", "dog", "Lantern Row", "August",
            "row across the lake with a paper lantern in each boat"),
    Village("Elmsgate", "at the gate of the great wood", "an elm as wide as a cart", 70, "Friday",
            "carpenter", "mushroom pancakes", "pig", "Leaf Fair", "October",
            "trade chairs and spoons under the great elm"),
    Village("Fernhollow", "in a shady hollow full of ferns", "a waterfall called the Veil", 29,
            "Saturday", "candle maker", "honey cake", "bee", "Bee Morning", "July",
            "tell the bees the news of the year"),
    Village("Gorsehill", "on a windy hill in the west", "a windmill with red sails", 45, "Monday",
            "miller", "oat bread", "donkey", "Sail Feast", "September",
            "tie ribbons to the sails and watch them turn"),
    Village("Hartley End", "at the end of the long road", "a bell tower without a church", 33,
            "Tuesday", "smith", "bean pot", "pony", "Bell Evening", "November",
            "ring the bell once for each child of the village"),
    Village("Inkpen Green", "round a wide green with a pond", "a school with a round window", 66,
            "Wednesday", "bookbinder", "apple dumplings", "cat", "Story Week", "January",
            "read aloud by the fire, one story each night"),
    Village("Juniper Row", "along a dry and sunny slope", "a row of forty juniper trees", 40,
            "Thursday", "cheese maker", "goat cheese tart", "goat", "First Milk", "April",
            "carry a bowl of fresh milk from door to door"),
    Village("Kestrel Rock", "below a grey cliff in the east", "a watch tower on the cliff", 24,
            "Friday", "rope maker", "pea soup", "hen", "Kite Day", "February",
            "fly kites from the top of the cliff"),
    Village("Lowbarn", "among wide fields in the middle of the vale", "a barn with three doors", 92,
            "Saturday", "baker", "plum bread", "cow", "Harvest Table", "December",
            "eat together in the barn at one long table"),
)

CRAFTS = (
    Craft("basket maker", "weaving baskets", "basket", "baskets", "willow rods", "a short knife",
          ("soak the rods for a night", "weave them round a flat base", "trim the ends")),
    Craft("potter", "making pots", "jug", "jugs", "river clay", "a wheel",
          ("knead the clay until it is smooth", "shape it on the wheel", "fire it in the kiln")),
    Craft("weaver", "weaving cloth", "blanket", "blankets", "sheep's wool", "a loom",
          ("comb and spin the wool", "weave it on the loom", "wash the cloth in warm water")),
    Craft("boat builder", "building boats", "boat", "boats", "larch planks", "a plane",
          ("bend the planks over steam", "nail them to the ribs", "fill the gaps with tar")),
    Craft("carpenter", "making furniture", "chair", "chairs", "dry oak", "a saw",
          ("saw the wood to length", "cut the joints", "rub the seat with oil")),
    Craft("candle maker", "making candles", "candle", "candles", "beeswax", "a copper pot",
          ("melt the wax slowly", "dip the wick many times", "hang the candles up to cool")),
    Craft("miller", "grinding grain", "sack of flour", "sacks of flour", "wheat", "two mill stones",
          ("clean the grain", "grind it between the stones", "sift the flour into sacks")),
    Craft("smith", "working iron", "horseshoe", "horseshoes", "iron", "a heavy hammer",
          ("heat the iron until it glows", "beat it into shape", "cool it in water")),
    Craft("bookbinder", "binding books", "book", "books", "strong paper", "a bone folder",
          ("fold the sheets", "sew them along the back", "glue them into the cover")),
    Craft("cheese maker", "making cheese", "cheese", "cheeses", "goat's milk", "a wooden press",
          ("warm the milk until it thickens", "press the curds",
           "let the cheese rest for a month")),
    Craft("rope maker", "twisting rope", "rope", "ropes", "hemp", "a long hook",
          ("comb the hemp", "walk backwards while the yarn twists", "wind three yarns into one")),
    Craft("baker", "baking bread", "loaf", "loaves", "flour", "a long wooden shovel",
          ("mix the dough in the evening", "let it rise overnight", "bake it before sunrise")),
)

ANIMALS = (
    Animal("goose", "geese", "grass", "in a low shed", "hiss at strangers", "they guard the yard"),
    Animal("duck", "ducks", "snails", "on the pond", "swim in a line", "they keep snails off beds"),
    Animal("sheep", "sheep", "hill grass", "in a stone fold", "follow the leader",
           "they give wool"),
    Animal("dog", "dogs", "scraps of meat", "by the door", "bark at the post cart",
           "they watch the house"),
    Animal("pig", "pigs", "acorns", "in a sty of logs", "dig with their noses",
           "they eat what is left over"),
    Animal("bee", "bees", "nectar", "in a straw hive", "dance to show the way",
           "they make honey and wax"),
    Animal("donkey", "donkeys", "hay and thistles", "in a small stable", "stop when they are tired",
           "they carry sacks up the hill"),
    Animal("pony", "ponies", "oats", "in a warm stable", "trot at the sound of the bell",
           "they pull the post cart"),
    Animal("cat", "cats", "mice", "near the stove", "sleep all afternoon", "they catch mice"),
    Animal("goat", "goats", "leaves and twigs", "on the slope", "climb on every roof",
           "they give milk for cheese"),
    Animal("hen", "hens", "corn", "in a coop on legs", "scratch in the dust", "they lay eggs"),
    Animal("cow", "cows", "clover", "in the long barn", "chew all day",
           "they give milk and butter"),
    Animal("otter", "otters", "fish", "in the river bank", "slide down the mud",
           "they show where the water is clean"),
    Animal("owl", "owls", "voles", "in the old elm", "hunt without a sound",
           "they keep voles out of the grain"),
)

DISHES = (
    Dish("leek pie", ("leeks", "butter", "flour"), 50,
         ("roll out the dough", "fill it with soft leeks", "bake it until it is golden")),
    Dish("trout soup", ("trout", "onions", "cream"), 35,
         ("boil the onions", "add the fish in pieces", "stir in the cream")),
    Dish("barley stew", ("barley", "carrots", "mutton"), 90,
         ("brown the meat", "add barley and water", "cook it slowly with the carrots")),
    Dish("smoked eel", ("eel", "salt", "beech chips"), 120,
         ("rub the fish with salt", "hang it in the smoke", "turn it once")),
    Dish("mushroom pancakes", ("mushrooms", "eggs", "milk"), 25,
         ("beat eggs and milk", "fry the mushrooms", "pour the batter over them")),
    Dish("honey cake", ("honey", "eggs", "nuts"), 60,
         ("warm the honey", "stir in eggs and nuts", "bake it in a flat tin")),
    Dish("oat bread", ("oats", "yeast", "water"), 80,
         ("mix a soft dough", "let it rise by the stove", "bake it in a hot oven")),
    Dish("bean pot", ("beans", "bacon", "thyme"), 150,
         ("soak the beans overnight", "put all in a clay pot", "leave it in the embers")),
    Dish("apple dumplings", ("apples", "flour", "cinnamon"), 45,
         ("peel the apples", "wrap each one in dough", "bake them until they smell sweet")),
    Dish("goat cheese tart", ("goat cheese", "eggs", "chives"), 40,
         ("line a tin with dough", "mix cheese, eggs and chives",
          "bake the tart until it is firm")),
    Dish("pea soup", ("dried peas", "onions", "ham"), 100,
         ("soak the peas", "boil them with the ham", "mash them with a spoon")),
    Dish("plum bread", ("plums", "flour", "sugar"), 70,
         ("stone the plums", "fold them into the dough", "bake it with sugar on top")),
)

SEASONS = (
    Season("spring", "mild and windy, with short showers", "the willows turn green",
           "people sow peas and mend fences", "lambs jump in the meadows",
           "keep a coat near the door, for the showers come fast"),
    Season("summer", "warm and dry, with a few loud storms", "the hay smells sweet",
           "people cut hay and pick cherries", "children swim in the lake",
           "carry water to the field and rest at noon"),
    Season("autumn", "cool and misty in the morning", "the leaves turn yellow",
           "people bring in apples and grind the new wheat", "smoke rises from the ovens",
           "stack dry wood before the long rain"),
    Season("winter", "cold and still, with deep snow on the hills", "the pond freezes over",
           "people spin, carve spoons and feed the animals", "stories are told by the fire",
           "close the shutters at dusk and share the fire"),
)

GOODS = (
    Good("loaf", "loaves", 3, True), Good("candle", "candles", 2), Good("basket", "baskets", 9),
    Good("jug", "jugs", 7), Good("blanket", "blankets", 24), Good("chair", "chairs", 30),
    Good("rope", "ropes", 8), Good("book", "books", 18), Good("cheese", "cheeses", 11, True),
    Good("horseshoe", "horseshoes", 5), Good("spoon", "spoons", 1),
    Good("honey jar", "honey jars", 6, True), Good("apple pie", "apple pies", 4, True),
    Good("knife", "knives", 12), Good("hat", "hats", 10),
    Good("lantern", "lanterns", 15), Good("broom", "brooms", 4), Good("kite", "kites", 6),
)

JOBS = ("farmer", "fisher", "shepherd", "teacher", "post rider", "gardener", "healer", "fiddler")
HOBBIES = ("playing the flute", "carving spoons", "growing roses", "walking in the hills",
           "singing old songs", "painting birds", "telling riddles", "flying kites",
           "collecting stones", "baking pies", "fishing at dawn", "reading by the fire")
_WOMEN = ("Ada", "Berta", "Clara", "Dora", "Edda", "Flora", "Greta", "Hilda", "Ilse", "June",
          "Kate", "Lotte", "Mara", "Nell", "Olga", "Petra", "Rosa", "Sally", "Tilda", "Zoë")
_MEN = ("Abel", "Björn", "Conrad", "Dirk", "Emil", "Finn", "Gus", "Hugo", "Ivo", "Jasper",
        "Karl", "Leo", "Milo", "Nils", "Otto", "Paul", "Ralf", "Sam", "Tom", "Walt")
_SURNAMES = ("Fenn", "Marsh", "Reed", "Stone", "Brook", "Thorn", "Hill", "Wood", "Lamb", "Crane")
_PETS = ("goose", "duck", "dog", "donkey", "pony", "cat", "goat", "hen", "pig")
PET_NAMES = ("Pip", "Button", "Moss", "Nutmeg", "Clover", "Biscuit", "Soot", "Thimble", "Plum",
              "Bramble", "Pepper", "Daisy", "Pebble", "Marble", "Acorn", "Ginger", "Bubble",
              "Whistle", "Poppy", "Barley")


def _people():
    stream = Stream("people")
    people = []
    for i, first in enumerate(_WOMEN + _MEN):
        village = VILLAGES[i % len(VILLAGES)]
        job = village.maker if stream.below(2) else stream.choose(JOBS)
        people.append(Person(
            name=f"{first} {stream.choose(_SURNAMES)}", woman=i < len(_WOMEN),
            age=stream.between(19, 78), job=job, village=village.name, pet=stream.choose(_PETS),
            pet_name=stream.choose(PET_NAMES), hobby=stream.choose(HOBBIES)))
    return tuple(people)


PEOPLE = _people()
VILLAGE = {village.name: village for village in VILLAGES}
CRAFT = {craft.maker: craft for craft in CRAFTS}
ANIMAL = {animal.name: animal for animal in ANIMALS}
DISH = {dish.name: dish for dish in DISHES}


def with_article(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def listed(items):
    """"a, b and c"."""
    items = list(items)
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def capital(text):
    return text[0].upper() + text[1:]


def sentence(text):
    """Starts with a capital and ends with a mark."""
    text = capital(text)
    return text if text[-1] in ".!?" else text + "."


def pennies(count):
    return "1 penny" if count == 1 else f"{count} pennies"


NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def counted(count, good):
    return f"{NUMBERS[count]} {good.name if count == 1 else good.plural}"
