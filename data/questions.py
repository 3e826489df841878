"""Records without a context: facts (open_qa), explanations, lists, stories and poems."""

from world import (ANIMAL, ANIMALS, CRAFT, CRAFTS, DISH, DISHES, GOODS, PEOPLE, PET_NAMES, RIVER,
                   SEASONS, VALE, VILLAGE, VILLAGES, capital, listed, pennies, sentence,
                   with_article)


def record(category, instruction, response, context=""):
    return {"instruction": instruction, "context": context, "response": response,
            "category": category}


def village_facts(v):
    craft, dish = CRAFT[v.maker], DISH[v.dish]
    yield (f"{v.name} lies {v.place}. Its landmark is {v.landmark}, and it has {v.houses} houses.",
           f"Where in {VALE} does {v.name} lie?", f"Where is the village of {v.name}?",
           f"I want to find {v.name}. Where should I look?")
    yield (f"The landmark of {v.name} is {v.landmark}. The village lies {v.place}.",
           f"What is the landmark of {v.name}?", f"Which sight do visitors of {v.name} look for?",
           f"By what can a traveller tell that this village is {v.name}?")
    yield (f"Market day in {v.name} is {v.market_day}. People come to buy {craft.products} there.",
           f"On which day is the market in {v.name}?", f"When do people trade in {v.name}?",
           f"What is the market day of {v.name}?")
    yield (f"{v.name} is known for {craft.work}. {capital(with_article(v.maker))} there works "
           f"with {craft.material} and uses {craft.tool}.",
           f"For which craft is {v.name} known?", f"What do people make in {v.name}?",
           f"Which kind of work is {v.name} famous for?")
    yield (f"The dish of {v.name} is {v.dish}. It is made of {listed(dish.ingredients)} and takes "
           f"{dish.minutes} minutes.",
           f"What do people like to eat in {v.name}?", f"Which dish comes from {v.name}?",
           f"Name the favourite dish of {v.name}.")
    yield (f"The festival of {v.name} is {v.festival}, held in {v.month}. On that day people "
           f"{v.custom}.",
           f"Which festival is held in {v.name}?", f"What does {v.name} celebrate, and when?",
           f"Tell me about the festival of {v.name}.")
    yield (f"Most houses in {v.name} keep {ANIMAL[v.keeps].plural}. People like them because "
           f"{ANIMAL[v.keeps].use}.",
           f"Which animals do most houses in {v.name} keep?", f"What animal is common in {v.name}?",
           f"If I visit {v.name}, which animals will I meet in most yards?")


def person_facts(p):
    he = p.he
    yield (f"{p.name} lives in {p.village}, a village {VILLAGE[p.village].place}. There {he} works "
           f"as {with_article(p.job)}.",
           f"Where does {p.name} live?", f"In which village can I meet {p.name}?",
           f"What is the home of {p.name}?")
    yield (f"{p.name} of {p.village} works as {with_article(p.job)}. In {p.his} free time {he} "
           f"likes {p.hobby}.",
           f"What is the work of {p.name}?", f"What does {p.name} do for a living?",
           f"Which job does {p.name} have?")
    yield (f"{p.name} has {with_article(p.pet)} called {p.pet_name}. It lives "
           f"{ANIMAL[p.pet].home} and eats {ANIMAL[p.pet].eats}.",
           f"Which pet does {p.name} have?", f"What is the name of {p.name}'s pet?",
           f"Does {p.name} keep an animal?")
    yield (f"{p.name} likes {p.hobby}. {capital(he)} is {p.age} years old and lives in "
           f"{p.village}.",
           f"What does {p.name} like to do?", f"What is the hobby of {p.name}?",
           f"How does {p.name} spend a free evening?")


def other_facts():
    for good in GOODS:
        yield (f"{capital(with_article(good.name))} costs {pennies(good.price)} on every market "
               f"of {VALE}. Two {good.plural} cost {pennies(2 * good.price)}.",
               f"What is the price of {with_article(good.name)}?",
               f"How much does {with_article(good.name)} cost in {VALE}?",
               f"How many pennies must I pay for {with_article(good.name)}?")
    for a in ANIMALS:
        yield (f"In {VALE} {a.plural} live {a.home} and eat {a.eats}. They {a.habit}.",
               f"What do {a.plural} eat in {VALE}?", f"Where do {a.plural} live in {VALE}?",
               f"Tell me how {a.plural} live in {VALE}.")
    for s in SEASONS:
        yield (f"In {VALE} {s.name} is {s.weather}. You know that it has come when {s.sign}.",
               f"What is the weather like in {s.name}?", f"How is {s.name} in {VALE}?",
               f"Describe {s.name} in {VALE}.")


def _facts():
    for village in VILLAGES:
        yield from village_facts(village)
    for person in PEOPLE:
        yield from person_facts(person)
    yield from other_facts()


def open_qa(stream, train, test):
    """Two phrasings of a fact go to training. A held-out question asks such a fact in a third."""
    facts = stream.shuffled(_facts())[:train // 2]
    asked = [[record("open_qa", question, answer) for question in stream.shuffled(questions)]
             for answer, *questions in facts]
    return ([r for records in asked for r in records[:2]],
            [records[2] for records in asked[:test]])


def explanations():
    for c in CRAFTS:
        one, work = with_article(c.product), f"{c.work} needs {c.material} and {c.tool}"
        first, second, third = c.steps
        village = next(v for v in VILLAGES if v.maker == c.maker)
        answer = (f"For {one} you need {c.material} and {c.tool}. First you {first}. Then you "
                  f"{second}. At last you {third}.")
        for question in (f"How is {one} made?", f"Explain how {with_article(c.maker)} makes {one}.",
                         f"What are the steps of making {one}?"):
            yield question, answer
        answer = (f"{sentence(work)} Both are easy to find near {village.name}, which lies "
                  f"{village.place}. So the craft grew there, and people come on "
                  f"{village.market_day} to buy {c.products}.")
        for question in (f"Why is {village.name} a good place for {c.work}?",
                         f"Why does {with_article(c.maker)} like to work in {village.name}?"):
            yield question, answer
        answer = (f"A learner should begin with simple work. In the first weeks you only {first}. "
                  f"Later you {second}, and when the master is content you {third}. Take good care "
                  f"of your tools, such as {c.tool}.")
        for question in (f"How does one learn to be {with_article(c.maker)}?",
                         f"What should I know before I become {with_article(c.maker)}?"):
            yield question, answer
    for a in ANIMALS:
        answer = (f"People like to have {a.plural} near because {a.use}. {capital(a.plural)} "
                  f"live {a.home}. They eat {a.eats}, so they cost little.")
        for question in (f"Why do people keep {a.plural} or like them?",
                         f"What is good about having {a.plural} near the house?"):
            yield question, answer
        answer = (f"Give the {a.name} {a.eats} and clean water each day. It wants to be {a.home}, "
                  f"safe from rain. Do not be angry when it does what "
                  f"{a.plural} do: they {a.habit}.")
        for question in (f"How do I care for {with_article(a.name)}?",
                         f"What does {with_article(a.name)} need to be content?"):
            yield question, answer
    for d in DISHES:
        first, second, third = d.steps
        answer = (f"You need {listed(d.ingredients)}. First {first}. Then {second}. At last "
                  f"{third}. After {d.minutes} minutes the {d.name} is ready.")
        for question in (f"How do I cook {d.name}?", f"Give me the recipe for {d.name}.",
                         f"How is {d.name} made?"):
            yield question, answer
    for s in SEASONS:
        answer = (f"In {s.name} the weather is {s.weather}. It is wise to {s.care}. Then there is "
                  f"time for work: {s.work}.")
        for question in (f"How should I prepare for {s.name}?", f"What is wise to do in {s.name}?",
                         f"Give me advice for {s.name} in {VALE}."):
            yield question, answer


def general_qa(stream, train, test):
    records = stream.shuffled(record("general_qa", q, a) for q, a in explanations())
    return records[:train], records[train:train + test]


def _numbered(items):
    return "\n".join(f"{i}. {sentence(item)}" for i, item in enumerate(items, 1))


def brainstorm(stream):
    v, p, s = stream.choose(VILLAGES), stream.choose(PEOPLE), stream.choose(SEASONS)
    count = stream.between(3, 5)
    word = ("three", "four", "five")[count - 3]
    kind = stream.below(5)
    if kind == 0:
        question = f"Give me {word} ideas for a day in {v.name} in {s.name}."
        ideas = [f"look at {v.the_landmark}", f"eat {v.dish} for lunch",
                 f"watch {with_article(v.maker)} at work", f"feed the {ANIMAL[v.keeps].plural}",
                 f"talk with people while {s.work.replace('people ', 'they ')}",
                 f"go to the market if it is {v.market_day}"]
    elif kind == 1:
        question = f"List {word} presents for {p.name}, who likes {p.hobby}."
        ideas = [f"a new {g.name} for {pennies(g.price)}" for g in stream.sample(GOODS, 4)]
        ideas += [f"a treat for {p.pet_name} the {p.pet}", f"a free day for {p.hobby}"]
    elif kind == 2:
        pet = stream.choose(ANIMALS)
        question = f"Think of {word} names for a young {pet.name} that is born in {s.name}."
        ideas = [f"{name}, because {why}" for name, why in zip(stream.sample(PET_NAMES, 5), (
            "it is short and easy to call", f"it sounds like {s.name}", "children like it",
            f"it suits {with_article(pet.name)}", "nobody nearby has it"))]
    elif kind == 3:
        question = f"What could {v.name} do to make {v.festival} even better? Give {word} ideas."
        ideas = [f"invite the {w.maker} of {w.name}" for w in stream.sample(VILLAGES, 2)
                 if w is not v]
        ideas += [f"serve {v.dish} to every guest", f"let {p.name} start the day",
                  f"hang lanterns on {v.the_landmark}", "let the children choose the music"]
    else:
        place = stream.choose((f"near {v.name}", f"in the yard of {p.name}", f"on {RIVER}"))
        question = f"Name {word} things one can hear or see {place} in {s.name}."
        ideas = [f"{a.plural} that {a.habit}" for a in stream.sample(ANIMALS, 3)]
        ideas += [s.sign, s.joy, f"a cart with {stream.choose(GOODS).plural}"]
    return record("brainstorming", question, _numbered(stream.sample(ideas, count)))


def write_creatively(stream):
    v, p, s, a = (stream.choose(x) for x in (VILLAGES, PEOPLE, SEASONS, ANIMALS))
    kind = stream.below(4)
    if kind == 0:
        question = f"Write a short story about {p.name} and {p.pet_name} the {p.pet} in {s.name}."
        trouble, end = stream.choose((
            ("could not be found", f"it sat {ANIMAL[p.pet].home} and looked content"),
            ("would not come out", f"{p.first} brought {ANIMAL[p.pet].eats} and it came at once"),
            ("ran down the road", f"a kind {v.maker} from {v.name} brought it back"),
            ("made a great noise", f"{p.first} saw a fox run away into the fields")))
        answer = (f"It was {s.name}, when {s.sign}. {p.first} was {p.hobby} when {p.pet_name} the "
                  f"{p.pet} {trouble}. \"Oh {p.pet_name}, what is it now?\" said {p.first}. "
                  f"{capital(p.he)} looked everywhere in {p.village}. In the end {end}. "
                  f"That evening they ate {VILLAGE[p.village].dish} by the fire.")
    elif kind == 1:
        question = f"Write a poem about {s.name} in {v.name}."
        answer = (f"In {v.name} {s.sign},\nand all the people sing.\nWe look at {v.the_landmark}\n"
                  f"and wonder what {s.name} will bring.\nThe {ANIMAL[v.keeps].plural} are here, "
                  f"the {a.plural} are near,\nthe table holds {v.dish}.\n"
                  f"{capital(s.joy)} this year:\nwhat more is there to wish?")
    elif kind == 2:
        b = ANIMAL[p.pet] if p.pet != a.name else ANIMAL["owl" if a.name != "owl" else "cat"]
        question = (f"Invent a talk between {with_article(a.name)} and {with_article(b.name)} "
                    f"in {s.name} in {v.name}.")
        answer = (f"\"Good morning,\" said the {a.name}. \"I see that {s.sign}.\"\n\"Yes,\" said "
                  f"the {b.name}, \"it is {s.weather}. I would rather stay {b.home}.\"\n\"Come and "
                  f"eat {a.eats} with me,\" said the {a.name}.\n\"No, thank you. I eat {b.eats},\" "
                  f"said the {b.name}. \"But I will walk with you to {v.the_landmark}.\"")
    else:
        question = f"Write a letter from {p.name} to a friend about {v.festival} in {v.name}."
        answer = (f"Dear friend,\nlast {v.month} I went to {v.name} for {v.festival}. People there "
                  f"{v.custom}. I ate {v.dish} and bought {with_article(CRAFT[v.maker].product)}. "
                  f"My {p.pet} {p.pet_name} was with me and did not like the noise. Come with me "
                  f"next year!\nYour {p.first}")
    return record("creative_writing", question, answer)
