"""What the real pair is asked, by how hard its answers are to draft."""

PROMPTS = {
    "code": (
        "Write a Python function that returns the n-th Fibonacci number iteratively, with a docstring.",
        "Write a Python function `is_palindrome(text)` that ignores case and spaces.",
        "Write a JavaScript function that groups an array of objects by a key.",
    ),
    "arithmetic": (
        "A baker makes 24 rolls in a tray and fills 7 trays each morning. She sells 5 rolls for 2 dollars. "
        "How many dollars does she take if she sells all of them but 8?",
        "Tom has 3 boxes with 18 pencils each. He gives away a third of all pencils and then buys 12 more. "
        "How many pencils does he have?",
        "A train goes 240 km in 3 hours, rests for half an hour, then goes 100 km in 2 hours. What is its "
        "mean speed over the whole journey?",
    ),
    "chat": (
        "What should I see in Lisbon in two days?",
        "My neighbour plays loud music at night. How do I raise it without a quarrel?",
        "Explain to a child why the sky is blue.",
        "Suggest a name and a slogan for a small bakery by the sea.",
    ),
}
