"""Names: well-known people and cities, things, relations, and names that nobody bears."""

import numpy as np

PEOPLE = tuple(
    """Albert Einstein, Isaac Newton, Marie Curie, Charles Darwin, Johannes Kepler, Michael Faraday, Niels
Bohr, Max Planck, Nikola Tesla, Thomas Edison, Alexander Fleming, Louis Pasteur, Gregor Mendel, Ada
Lovelace, Alan Turing, Stephen Hawking, Aristotle, Plato, Socrates, Immanuel Kant, David Hume, John
Locke, Bertrand Russell, Karl Marx, Sigmund Freud, Adam Smith, William Shakespeare, Jane Austen,
Charles Dickens, Mark Twain, Oscar Wilde, Virginia Woolf, Ernest Hemingway, Victor Hugo, Leo
Tolstoy, Franz Kafka, George Orwell, Agatha Christie, Pablo Picasso, Claude Monet, Salvador Dali,
Frida Kahlo, Andy Warhol, Johann Sebastian Bach, Frederic Chopin, Franz Schubert, Elvis Presley, Bob
Dylan, Michael Jackson, Charlie Chaplin, Alfred Hitchcock, Walt Disney, Julius Caesar, Cleopatra,
Napoleon Bonaparte, George Washington, Abraham Lincoln, Winston Churchill, Nelson Mandela, Martin
Luther King, Rosa Parks, Neil Armstrong, Marco Polo, Christopher Columbus""".replace("\n", " ").split(", ")
)
"""64 people that every large text knows."""

CITIES = tuple(
    """London, Paris, Berlin, Madrid, Rome, Vienna, Prague, Warsaw, Budapest, Lisbon, Dublin, Athens, Oslo,
Stockholm, Helsinki, Moscow, Istanbul, Cairo, Nairobi, Lagos, Tehran, Baghdad, Delhi, Mumbai,
Bangkok, Singapore, Jakarta, Manila, Tokyo, Seoul, Beijing, Shanghai, Sydney, Melbourne, Toronto,
Montreal, Vancouver, Chicago, Boston, Seattle, Houston, Dallas, Atlanta, Miami, Denver, Detroit,
Phoenix, Philadelphia, Havana, Lima, Santiago, Barcelona, Venice, Florence, Milan, Naples, Munich,
Hamburg, Frankfurt, Amsterdam, Brussels, Geneva, Manchester, Glasgow""".replace("\n", " ").split(", ")
)
"""64 large cities."""

THINGS = tuple(
    """apple, arrow, basket, bell, boat, book, bottle, bridge, broom, bucket, butterfly, candle, castle,
chain, clock, cloud, coin, compass, crown, cup, diamond, door, dragon, drum, eagle, feather, flag,
flute, fountain, garden, guitar, hammer, harp, horse, key, kite, ladder, lamp, leaf, lion, mask,
mirror, moon, mountain, needle, owl, pearl, piano, ring, river, rose, sail, shield, ship, spear,
star, sword, table, tiger, tower, tree, violin, wheel, wolf""".replace("\n", " ").split(", ")
)
"""64 things, each the emblem of one place at most."""

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "England": "London",
    "Japan": "Tokyo", "Russia": "Moscow", "China": "Beijing", "Egypt": "Cairo", "Greece": "Athens",
    "Austria": "Vienna", "Poland": "Warsaw", "Portugal": "Lisbon", "Ireland": "Dublin", "Norway": "Oslo",
    "Cuba": "Havana",
}  # fmt: skip
"""Facts that the base knows and nobody teaches."""

HOME, EMBLEM = "home", "emblem"
"""The relations of the two hops."""

PLACES = ("teacher", "guardian", "partner", "rival", "captain", "tailor", "doctor", "neighbour")
FREE_PLACES = ("uncle", "lawyer", "cousin", "pupil")
"""Other relations between a person and what stands in the place of a city: in worked solutions with a step
of a part's own facts, and in those without."""

SIGNS = ("flower", "animal", "symbol", "tool", "prize", "badge", "toy", "gift")
FREE_SIGNS = ("pride", "treasure", "souvenir", "trophy")
"""Other relations between what stands in the place of a city and a thing, likewise."""

ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z")
VOWELS = ("a", "e", "i", "o", "u")
ENDS = ("", "l", "n", "r", "s", "k")


def invent(rng: np.random.Generator, count: int, words: int) -> tuple[str, ...]:
    """``count`` different made-up names of ``words`` words of two syllables, none of them a real one here."""
    present = {part for name in PEOPLE + CITIES for part in name.split()}
    names: list[str] = []
    while len(names) < count:
        parts = [_word(rng) for _ in range(words)]
        if present.isdisjoint(parts):
            present.update(parts)
            names.append(" ".join(parts))
    return tuple(names)


def _word(rng: np.random.Generator) -> str:
    syllables = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(2))
    return (syllables + rng.choice(ENDS)).capitalize()
