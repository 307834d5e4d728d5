/* Every block size and threshold of the kernels, in one place.
 *
 * Sizes that stand for a cache or a buffer are in bytes.  Where a value comes from, if it was measured against others:
 * docs/measurements.md.  None of them changes a bit of what a step computes.  A weight gradient adds up the blocks, the
 * last one first: those of "Blocks of steps" may change its last bits.
 */
#ifndef CYRNN_LIMITS_H
#define CYRNN_LIMITS_H

#include "real.h"

/* The machine */
#define CACHE_LINE 64
#define LINE (CACHE_LINE / (int)sizeof(real)) /* values of a cache line: threads write no line together */
#define HUGE_PAGE (1 << 21)
#define L1_SET_STRIDE 4096                /* lines this far apart share a set of L1 */

/* Matrix products (linalg): MR and VLEN depend on the vector width, see simd.h */
#define MR (4 * VLEN)                     /* rows of a packed panel */
#define NR 6                              /* columns of a register tile */
#define PANEL_BYTES (40 * 1024)           /* of a panel per visit, nearly all of L1 */
#define KC (PANEL_BYTES / (int)sizeof(real) / MR) /* terms of a sum per visit of a panel */
#define MC (6 * MR)                       /* rows of a weight gradient per pass over the panels */
#define AXPY_ROWS 8                       /* rows of W that one column reads side by side */
#define SUM_COLUMNS 640                   /* terms of a sum in plain float32, where more of them are compensated */
#define TILE_BYTES (512 * 1024)           /* of a weight gradient that is summed apart before it is added */
#define TRANSPOSE_FROM (8 * MR)           /* columns of dW from which D is transposed first */
#define WEIGHTS_IN_L1 (32 * 1024)         /* bytes of packed weights up to which two panels are read side by side */
#define WEIGHTS_IN_L2 800000              /* bytes of weights that one core keeps in its caches */
#define SHARED_PANELS 4                   /* panels of a thread from which threads split the rows of a product */
#define PADDED_LD_FROM 64                 /* row length from which rows are an odd number of cache lines apart */
#define DOT_ROWS 4                        /* register tile of the dot products over many examples */
#define DOT_COLS (VREGS < 32 ? 2 : 4)
#define DOT_FROM (8 * VLEN)               /* examples from which a dot product is cut into lanes */

/* Blocks of steps (schedule) */
#define BLOCK_COLUMNS 256                 /* columns (examples times steps) of a product at full speed */
#define BLOCK_STEPS 24                    /* steps of a block at least: three cache lines of the caller's arrays */
#define BLOCK_BYTES (64 * 1024)           /* workspace that every block may take; not a maximum: see WORKSPACE_SHARE */
#define FORWARD_COLUMNS 16                /* columns of a block at least, forward */
#define BACKWARD_COLUMNS 64               /* and backward */
#define WORKSPACE_SHARE 0.25              /* of the bytes returned that the workspace of a block may take */
#define SINGLE_BLOCK_BYTES (1024 * 1024)  /* with lengths: up to here all steps may be one block */
#define NARROW_COLUMN_BYTES 512           /* a column of a small network takes less */
#define TABLE_BYTES (128 * 1024)          /* table of a single block, or */
#define TABLE_SHARE (1.0 / 16)            /* of the bytes returned */
#define MANY_COLUMNS 4                    /* the inverse of the share of columns below which most is padding */
#define GATHER_TILE 128                   /* columns, and units, whose addresses are computed together */
#define CLEAR_STEPS 32                    /* steps up to which the padding is cleared with everything else */

/* Elementwise loops (cells, linalg) */
#define POINTWISE_CHUNK 256               /* values of a slot at a time, so that all slots stay in L1 */
#define SOFTMAX_FEW 16                    /* classes below which a softmax is computed by columns */
#define SOFTMAX_COLUMNS 64                /* columns at a time there */
#define SUM_CHUNK 256                     /* products that are stored before they are summed */
#define ELEMENTWISE_FLOPS 30.0            /* that a value of a softmax or a loss counts when it polls for signals */
#define LOSS_COLUMNS 8192                 /* columns of a loss at a time */
#define LOSS_ROW 64                       /* values that make a row long enough for the vectors */

/* Numbers (losses, updates) */
#ifdef CYRNN_F32
#define SQUARE_MAX 1.8e19f                /* the square of a number up to here is finite */
#define SQUARES_MIN 1e-30                 /* a sum of squares between these has lost nothing to subnormal numbers */
#define SQUARES_MAX 1e30
#define POWER_MIN (-120)                  /* 2 to the minus of it is finite */
#define COMPENSATED 1                     /* whether sums over columns keep what each addition rounds off */
#define DISTRIBUTION_ERROR 1e-4f          /* of a probability outside 0 ... 1, and of a sum of those away from 1 */
#else
#define SQUARE_MAX 1.3e154
#define SQUARES_MIN 1e-280
#define SQUARES_MAX 1e280
#define POWER_MIN (-1000)
#define COMPENSATED 0
#define DISTRIBUTION_ERROR 1e-6
#endif

/* Threads (runtime) */
#define FLOPS_PER_THREAD 4e6              /* that pay for one more thread */
#define EXAMPLES_PER_THREAD 4             /* of a step at least, where threads split the examples */
#define SPLIT_UNITS_PRODUCTS 5e5          /* multiplications of a step that pay for two barriers */
#define STEP_EXAMPLES 8                   /* fewer wait for the weights about as long as so many compute */
#define SPINS 2000                        /* of a barrier before it looks at the clock */
#define SPIN_SECONDS 1e-4                 /* that it spins then before its thread sleeps */
#define LOST_SECONDS 2e-4                 /* a thread that has slept takes about as long to wake */
#define THREADS_GAIN 0.9                  /* one thread takes about so many times n what n threads take */
#define LOST_CALLS 2                      /* calls one after the other that lose: the first one wakes the threads */
#define LOST_PAUSE 4.0                    /* calls, and times what was lost, for which one thread is taken then */
#define LOST_PAUSE_MOST 32.0              /* doubled up to so many while calls go on to lose, */
#define LOST_PAUSE_SECONDS 10.0           /* and to so many seconds */
#define POLL_FLOPS 2e7                    /* between two looks at the clock: some milliseconds at most */
#define POLL_SECONDS 0.05                 /* between two checks for a signal */
#define GIL_FLOPS 2e5                     /* of a stream's step from which it releases the GIL */

/* Buffers (runtime) */
#define POOL_BYTES (256 * 1024 * 1024)    /* that wait for their next use */
#define POOL_BUFFERS 16                   /* and how many they may be */
#define POOL_FROM (64 * 1024)             /* bytes up to which malloc is as fast */
#define MAX_COLUMNS ((Py_ssize_t)1 << 40) /* examples times steps: more could overflow a size */

#endif
