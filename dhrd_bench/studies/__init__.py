"""Plans that were fixed beforehand: hypotheses, margins, when to stop; and what records say of them."""
