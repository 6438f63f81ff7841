"""The rule that stands beside every switch for training on members' own text."""

RULE_21 = (
    "Discord's Developer Policy, rule 21: message content obtained through the API may not be used "
    "to train machine-learning models without Discord's express permission."
)
