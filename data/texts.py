"""Records about a given text: closed_qa, information_extraction, summarization, classification."""

from questions import record
from world import (ANIMAL, ANIMALS, CRAFT, CRAFTS, DAYS, DISH, DISHES, GOODS, PEOPLE, SEASONS,
                   VILLAGE, VILLAGES, capital, counted, listed, pennies, sentence, with_article)


def _market_visit(stream):
    """A purchase at world prices: the text, and questions on it with their answers."""
    p, v = stream.choose(PEOPLE), stream.choose(VILLAGES)
    bought = stream.sample(GOODS, 2)
    counts = [stream.between(1, 4) for _ in bought]
    paid = sum(n * g.price for n, g in zip(counts, bought))
    hour, season = stream.between(6, 10), stream.choose(SEASONS)
    goods = listed(counted(n, g) for n, g in zip(counts, bought))
    prices = " and ".join(f"{pennies(g.price)} for {with_article(g.name)}" for g in bought)
    text = (f"One {v.market_day} in {season.name} {p.name} went to the market in {v.name}. "
            f"{capital(p.he)} left {p.his} house in {p.village} at {hour} o'clock. The price was "
            f"{prices}. {p.first} bought {goods} and paid {pennies(paid)}. On the way home {p.he} "
            f"stopped at {v.the_landmark} to rest.")
    return text, (
        (f"What did {p.first} buy?", f"{p.first} bought {goods}."),
        (f"How much did {p.first} pay?",
         f"{p.first} paid {pennies(paid)} for {goods}."),
        (f"Where did {p.first} rest on the way home?",
         f"{capital(p.he)} stopped at {v.the_landmark} to rest."),
        (f"At what time did {p.first} leave the house?",
         f"{p.first} left {p.his} house in {p.village} at {hour} o'clock."),
        ("Which market does the text speak of, and on which day was it?",
         f"It speaks of the market in {v.name}. It was on a {v.market_day}."))


def _work_day(stream):
    """A maker, the work and a small trouble."""
    c, (p, helper), s = stream.choose(CRAFTS), stream.sample(PEOPLE, 2), stream.choose(SEASONS)
    count = stream.between(2, 9)
    day = stream.choose(DAYS)
    trouble, remedy = stream.choose((
        ("the rain came through the roof", "put a jug under the hole"),
        (f"the {c.material} ran out", "asked a neighbour for more"),
        (f"a {stream.choose(('cat', 'goat', 'hen'))} ran through the shop", "shut the door"),
        (f"it was too dark to use {c.tool}", "lit three candles"),
        ("a child asked a hundred questions", "gave it a broom")))
    text = (f"On {day} {p.name} of {p.village} helped {with_article(c.maker)}. It was {s.name}, "
            f"when {s.sign}. The master told {p.him} to {c.steps[0]} and to "
            f"{c.steps[1]}. Around noon {trouble}, so {helper.name} {remedy}. In the evening "
            f"{count} {c.products} were ready.")
    return text, (
        (f"What went wrong around noon?", f"Around noon {trouble}."),
        (f"Who helped when there was trouble, and how?", f"{helper.name} helped and {remedy}."),
        (f"How many {c.products} were ready in the evening?",
         f"In the evening {count} {c.products} were ready."),
        (f"What did the master tell {p.first} to do?",
         f"The master told {p.him} to {c.steps[0]} and to {c.steps[1]}."),
        ("In which season does the text take place?",
         f"It was {s.name}. The text says that {s.sign}."))


def closed_qa(stream):
    text, questions = stream.choose((_market_visit, _work_day))(stream)
    question, answer = stream.choose(questions)
    return record("closed_qa", question, answer, text)


def extract(stream):
    p, v, g = stream.choose(PEOPLE), stream.choose(VILLAGES), stream.choose(GOODS)
    day, hour, count = stream.choose(DAYS), stream.between(7, 18), stream.between(2, 9)
    kind = stream.below(3)
    if kind == 0:
        text = (f"Lost near {v.name}: a young {p.pet} called {p.pet_name}. It was last seen on "
                f"{day} at {hour} o'clock close to {v.the_landmark}. Whoever finds it gets "
                f"{pennies(count)} from {p.name} in {p.village}.")
        fields = {"Animal": p.pet, "Name": p.pet_name, "Owner": p.name, "Last seen": f"{day}, "
                  f"{hour} o'clock", "Reward": pennies(count)}
    elif kind == 1:
        goods, pay = counted(count, g), pennies(count * g.price)
        text = (f"Dear shopkeeper, please send me {goods} by {day}. My house stands in "
                f"{p.village}, {VILLAGE[p.village].place}. I will pay {pay} when the cart "
                f"comes at {hour} o'clock. With thanks, {p.name}")
        fields = {"Sender": p.name, "Goods": goods, "Day": day, "Place": p.village, "Pay": pay}
    else:
        text = (f"{v.festival} is near! All are invited to {v.name} on {day} the "
                f"{count + 10}th of {v.month}. We begin at {hour} o'clock by {v.the_landmark}. "
                f"There will be {v.dish} for everyone, and {p.name} will see to the music.")
        fields = {"Festival": v.festival, "Village": v.name, "Date": f"{count + 10}th of {v.month}",
                  "Food": v.dish, "Music": p.name}
    names = stream.sample(fields, stream.between(3, 5))
    wish = listed(name.lower() for name in names)
    question = stream.choose((f"Take these fields from the text: {wish}.",
                              f"Read the note and write down: {wish}.",
                              f"Find the following in the text, one on a line: {wish}."))
    answer = "\n".join(f"{name}: {fields[name]}" for name in names)
    return record("information_extraction", question, answer, text)


def summarize(stream):
    p, s = stream.choose(PEOPLE), stream.choose(SEASONS)
    kind = stream.below(3)
    if kind == 0:
        v = stream.choose(VILLAGES)
        c, a = CRAFT[v.maker], ANIMAL[v.keeps]
        extra = stream.choose(PEOPLE)
        text = (f"{v.name} lies {v.place} and has {v.houses} houses. Visitors like to look at "
                f"{v.landmark}. On {v.market_day} there is a market, where people buy "
                f"{c.products}. Most houses keep {a.plural}, because {a.use}. {extra.name}, who "
                f"likes {extra.hobby}, once said: \"In {s.name} there is no better place.\" In "
                f"{v.month} {v.festival} is held, and people {v.custom}.")
        answer = (f"{v.name}, a village of {v.houses} houses {v.place}, is known for {v.landmark}, "
                  f"its {c.products} and {v.festival} in {v.month}.")
    elif kind == 1:
        v, g = VILLAGE[p.village], stream.choose(GOODS)
        text = (f"{p.name} is {p.age} years old and lives in {p.village}, {v.place}. "
                f"{capital(p.he)} works as {with_article(p.job)}. Each morning {p.he} feeds "
                f"{p.pet_name} the {p.pet}, which wants {ANIMAL[p.pet].eats}. In {s.name}, when "
                f"{s.sign}, {p.he} likes {p.hobby}. Last {v.market_day} {p.he} bought "
                f"{with_article(g.name)} for {pennies(g.price)} and was content.")
        answer = (f"{p.name}, {with_article(p.job)} of {p.age} in {p.village}, keeps {p.pet_name} "
                  f"the {p.pet} and likes {p.hobby}.")
    else:
        d, host = stream.choose(DISHES), stream.choose(PEOPLE)
        first, second, third = d.steps
        guests = stream.between(3, 12)
        text = (f"On {stream.choose(DAYS)} {host.name} cooked {d.name} for {guests} guests. It was "
                f"{s.name}, the weather was {s.weather}. First {host.he} had to {first}. Then "
                f"{host.he} had to {second}, and at last {third}. After {d.minutes} minutes all "
                f"sat down. Everyone said that it was the best {d.name} in {host.village}. Nothing "
                f"was left but a spoon of {d.ingredients[0]}.")
        answer = (f"{host.name} of {host.village} cooked {d.name} for {guests} guests in "
                  f"{d.minutes} minutes, and everyone liked it.")
    question = stream.choose(("Summarize the text in one sentence.", "What is the main point?",
                              "Make this text short.", "Tell me in one sentence what this says."))
    return record("summarization", question, answer, text)


_MOODS = {
    "glad": ("I am so happy that I could dance", "it is the best news of the year",
             "we laughed until it was dark"),
    "angry": ("this must never happen again", "I want my pennies back at once",
              "I have never seen such bad manners"),
    "sad": ("I cried all evening", "the house is so empty now", "nothing tastes good any more"),
    "worried": ("I could not sleep last night", "I do not know what will come",
                "please write soon, I fear the worst"),
}


def _mood(stream):
    mood = stream.choose(tuple(_MOODS))
    (p, q, other), g = stream.sample(PEOPLE, 3), stream.choose(GOODS)
    first, second = stream.sample(_MOODS[mood], 2)
    news = stream.choose((f"{p.pet_name} the {p.pet} is gone",
                          f"the {g.name} came on {stream.choose(DAYS)}",
                          f"we heard about {other.name}", f"the road to {p.village} is closed"))
    text = f"Dear {q.first}, {news}, and {first}. {sentence(second)} Your {p.name}"
    return ("Is the writer of this letter glad, angry, sad or worried?",
            f"{mood.capitalize()}. The letter says: \"{sentence(first)}\"", text)


def _season(stream):
    s, p = stream.choose(SEASONS), stream.choose(PEOPLE)
    signs = stream.sample((s.sign, s.joy, s.work), 2)
    text = (f"From the day book of {p.name} of {p.village}: today {signs[0]}, and {signs[1]}. I "
            f"spent the evening {p.hobby}.")
    return ("To which season does this note belong: spring, summer, autumn or winter?",
            f"{s.name.capitalize()}. It is the season when {signs[0]}.", text)


def _craft(stream):
    c, p = stream.choose(CRAFTS), stream.choose(PEOPLE)
    others = stream.sample([x.maker for x in CRAFTS if x is not c], 2)
    makers = stream.shuffled([c.maker, *others])
    steps = stream.sample(c.steps, 2)
    text = (f"\"Today I will {steps[0]},\" said {p.name}, \"and later I will {steps[1]}. I have "
            f"{c.tool} ready.\"")
    return (f"Who speaks here: {makers[0]}, {makers[1]} or {makers[2]}?",
            f"{sentence(c.maker)} This work is part of {c.work}.", text)


def _sort(stream):
    groups = {"animal": [a.name for a in ANIMALS], "food": [d.name for d in DISHES],
              "thing to buy": [g.name for g in GOODS if not g.is_food],
              "village": [v.name for v in VILLAGES]}
    kinds = stream.sample(tuple(groups), 2)
    items = stream.shuffled([(name, kind) for kind in kinds
                             for name in stream.sample(groups[kind], stream.between(2, 3))])
    question = (f"Say for each of these whether it is {with_article(kinds[0])} or "
                f"{with_article(kinds[1])}: {', '.join(name for name, _ in items)}.")
    return question, "\n".join(f"{name}: {kind}" for name, kind in items), ""


def classify(stream):
    question, answer, text = stream.choose((_mood, _season, _craft, _sort))(stream)
    return record("classification", question, answer, text)
