"""One simulation by several processes: ranks of `torch.distributed`, each with a share of a cohort.

The result is that of one process, to the bit. Every rank draws the same schedule, holds the whole
server's state and repeats the server's step; a cohort is cut into runs of leaves of its sums
(`kernels/summation.py`), and each rank trains one run. What travels: nodes of the sums, the numbers
and losses of clients, rows of clients that another rank trains this time.
"""

from .ranks import RankLost as RankLost
from .ranks import Ranks as Ranks
from .ranks import begin as begin
from .ranks import shared as shared
