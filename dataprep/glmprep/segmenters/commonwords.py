"""Words that are said whatever the talk is about; where they stand tells nothing of its topics."""

from __future__ import annotations

from functools import cache

from glmprep.text.hashing import UInt64
from glmprep.text.ngrams import occurrences

ENGLISH = (
    "about actually after again all alright also although always and another any anyway are aren "
    "back basically because been before being both but can cause come could couldn cuz did didn "
    "does doesn doing don done each either else ever every few first for from get getting give "
    "goes going gonna good got had has have having here him his her how huh into isn its just kind "
    "know last less let like little look lot made make maybe mean mhm might mine more most much "
    "need never next nice not nothing now off okay once one only other our out over own pretty "
    "probably put quite rather really right said same say saying see seems she should since some "
    "something sort still stuff such sure take than thank thanks that the their them then there "
    "these they thing things think this those though through time too try two uhh umm under until "
    "use very wanna want was wasn way well went were what when where whether which while who why "
    "will with without won would wouldn yeah yep yes yet you your disfmarker pause vocalsound"
)
CHINESE = (
    "的了是我们这个那就也都在有不很说对你他她它么什吗呢吧啊嗯其实一些以到可能"
    "觉得所因为如果然后但和跟与或者会要去来还被把让给上下里样时候好"
)


@cache
def common() -> UInt64:
    """The hashes of the words above, and of each two of the ideographs (see `text.ngrams`)."""
    pairs = (first + second for first in CHINESE for second in CHINESE)
    return occurrences([ENGLISH, *pairs])[1]
