"""What is said: scripts matched centrally by audience × offer × channel, in versions and arms.

In come script files and forbidden words; out go the wording of each customer, the same in every
channel that asks, and why it is that one.
"""

from bihuan.strategy.script.book import ScriptBook, ScriptChoice, TiedScriptsError
from bihuan.strategy.script.lot import draw_arms
from bihuan.strategy.script.script import Arm, Script, read_scripts
from bihuan.strategy.script.template import MissingTagError, Template, TemplateError
from bihuan.strategy.script.wording import ForbiddenWord, ForbiddenWordError, WordList

__all__ = [
    "ScriptBook",
    "ScriptChoice",
    "Script",
    "Arm",
    "read_scripts",
    "TiedScriptsError",
    "Template",
    "TemplateError",
    "MissingTagError",
    "WordList",
    "ForbiddenWord",
    "ForbiddenWordError",
    "draw_arms",
]
