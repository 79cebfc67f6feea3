/* Matrix products of small networks with what follows each of them done while the result is at hand.
 *
 * One operation is C = finish(A B): A is m x k, B is k x n, both float32 with any strides. Two kernels
 * compute the sums: vectors of float32, on any processor a C compiler knows, and, where the caller
 * allows bfloat16 factors and the processor multiplies them, blocks of bfloat16 with float32 sums, by its
 * matrix units (AMX) or by vectors (AVX-512 BF16).
 * Finishing adds a bias, applies ReLU, masks by an activation, or reduces rows against another matrix,
 * so that no result is written to be read again at once.
 *
 * Results do not depend on how many threads share the rows. All memory belongs to the caller.
 */

#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif
#ifdef __AVX512BF16__
#define HAVE_BFLOAT16 1
#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__linux__)
#define HAVE_TILES 1
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

enum { STORE, ADD_BIAS, ADD_BIAS_RELU, MASK, ROW_PRODUCT, COLUMN_SUMS };
enum { EVERYTHING, ROWS_BEFORE, NOTHING };

struct operation {
    int64_t finish;               /* one of the first */
    int64_t needs;                /* of the operations before it, one of the second: all results; of the one
                                   * just before it, which has as many rows, the rows that it works on; or
                                   * nothing since the last one that needed everything */
    int64_t bfloat16;             /* whether factors may be rounded to bfloat16 */
    int64_t m, n, k;              /* of every member */
    const float *a;
    int64_t a_row, a_col, a_member;
    int64_t a_members;            /* of these, which members share by turns: member j has number j mod these */
    const float *b;
    int64_t b_row, b_col, b_member, b_members;
    float *c;
    int64_t c_row, c_member;      /* columns of c are contiguous; ROW_PRODUCT adds to c[m] */
    const float *bias;            /* n values a member */
    int64_t bias_member;
    const float *other;           /* MASK: activations; ROW_PRODUCT: the factor; m x n like c */
    int64_t other_row, other_member;
};

/* One register of floats; rows and registers of a float32 block, whose sums stay in registers; rows of a
 * block that is one register wide. */
#if defined(__AVX512F__)
#define LANES 16
#define ROWS 6
#define VECTORS 4
#define NARROW_ROWS 16
#elif defined(__AVX__)
#define LANES 8
#define ROWS 6
#define VECTORS 2
#define NARROW_ROWS 12
#else
#define LANES 4
#define ROWS 4
#define VECTORS 2
#define NARROW_ROWS 8
#endif
#define MOST_SUMS 24
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t lanes_mask __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define COLUMNS (VECTORS * LANES)
#define DIRECT 64                 /* columns, at least, that are read where they lie */
#define FEW 4                     /* columns that are computed as products of rows */
#define TILE 32                   /* rows and columns of a bfloat16 block, and its depth */

static const float *a_of(const struct operation *op, int64_t member)
{
    return op->a + member % op->a_members * op->a_member;
}

static const float *b_of(const struct operation *op, int64_t member)
{
    return op->b + member % op->b_members * op->b_member;
}

static int64_t padded(int64_t size, int64_t to) { return (size + to - 1) / to * to; }
static int64_t smaller(int64_t x, int64_t y) { return x < y ? x : y; }

/* --- what follows a product ------------------------------------------------------------------ */

static inline lanes where(lanes_mask mask, lanes x) { return (lanes)((lanes_mask)x & mask); }

/* Not a number stays what it is, as in torch's relu and its derivative. */
static inline lanes relu(lanes x) { return where(~(x < 0.0f), x); }
static inline lanes masked(lanes x, lanes activation) { return where(~(activation <= 0.0f), x); }

static inline float sum(lanes x)
{
    float total = 0.0f;
    for (int i = 0; i < LANES; i++) total += x[i];
    return total;
}

/* What becomes of one vector of sums: `c`, `bias` and `other` point to the same columns. */
static inline __attribute__((always_inline)) void finish_vector(int finish, float *c, lanes x,
                                                                const float *bias, const float *other,
                                                                lanes *total)
{
    switch (finish) {
    case STORE: *(lanes *)c = x; break;
    case ADD_BIAS: *(lanes *)c = x + *(const lanes *)bias; break;
    case ADD_BIAS_RELU: *(lanes *)c = relu(x + *(const lanes *)bias); break;
    case MASK: *(lanes *)c = masked(x, *(const lanes *)other); break;
    case ROW_PRODUCT: *total += (x + *(const lanes *)bias) * *(const lanes *)other; break;
    }
}

/* One row of sums; what is not a whole vector goes through copies padded with zeros. */
static inline __attribute__((always_inline)) void finish_row(int finish, float *c, const lanes *sums,
                                                             const float *bias, const float *other,
                                                             int64_t columns, int vectors)
{
    lanes total = {0};
    for (int v = 0; v < vectors; v++) {
        int64_t j = v * LANES, left = columns - j;
        if (left >= LANES) {
            finish_vector(finish, c + j, sums[v], bias + j, other + j, &total);
        } else if (left > 0) {
            float to[LANES] = {0}, add[LANES] = {0}, factor[LANES] = {0};
            if (finish == ADD_BIAS || finish == ADD_BIAS_RELU || finish == ROW_PRODUCT)
                memcpy(add, bias + j, left * sizeof(float));
            if (finish == MASK || finish == ROW_PRODUCT) memcpy(factor, other + j, left * sizeof(float));
            finish_vector(finish, to, sums[v], add, factor, &total);
            if (finish != ROW_PRODUCT) memcpy(c + j, to, left * sizeof(float));
        }
    }
    if (finish == ROW_PRODUCT) *c += sum(total);
}

/* Where the sums of a block belong: rows i0.., columns j0.., at most `width` of them. */
struct place {
    float *c;
    const float *bias, *other;
    int64_t c_row, other_row, columns;
};

static inline struct place place_of(const struct operation *op, int64_t member, int64_t i0, int64_t j0,
                                    int64_t width)
{
    int64_t column = op->finish == ROW_PRODUCT ? 0 : j0;
    return (struct place){
        .c = op->c + member * op->c_member + i0 * op->c_row + column,
        .bias = op->bias + member * op->bias_member + j0,
        .other = op->other + member * op->other_member + i0 * op->other_row + j0,
        .c_row = op->c_row,
        .other_row = op->other_row,
        .columns = smaller(width, op->n - j0),
    };
}

/* --- float32 --------------------------------------------------------------------------------- */

/* Columns j0.. of B as a panel of `width` columns, row by row, padded with zeros. */
static void pack_panel(const float *b, int64_t row, int64_t col, int64_t k, int64_t columns, int64_t width,
                       float *panel)
{
    enum { AT_ONCE = 16 }; /* rows, so that where columns lie one after the other each is read in whole lines */
    if (columns < width) memset(panel, 0, width * k * sizeof(float));
    for (int64_t p0 = 0; p0 < k; p0 += AT_ONCE) {
        int64_t p1 = smaller(k, p0 + AT_ONCE);
        if (col == 1) {
            for (int64_t p = p0; p < p1; p++) memcpy(panel + p * width, b + p * row, columns * sizeof(float));
            continue;
        }
        for (int64_t j = 0; j < columns; j++)
            for (int64_t p = p0; p < p1; p++) panel[p * width + j] = b[p * row + j * col];
    }
}

/* `rows` rows of A times a panel of `vectors` vectors. Whole vectors are finished from the registers. */
static inline __attribute__((always_inline)) void block(int finish, int rows, int vectors,
                                                        const float *const *a, int64_t a_col, int64_t k,
                                                        const float *panel, int64_t panel_row,
                                                        const struct place *at)
{
    lanes sums[MOST_SUMS], b[VECTORS];
    for (int i = 0; i < rows * vectors; i++) sums[i] = (lanes){0};
    for (int64_t p = 0; p < k; p++, panel += panel_row) {
        for (int v = 0; v < vectors; v++) b[v] = *(const lanes *)(panel + v * LANES);
        for (int i = 0; i < rows; i++) {
            float x = a[i][p * a_col];
            for (int v = 0; v < vectors; v++) sums[i * vectors + v] += x * b[v];
        }
    }
    for (int i = 0; i < rows; i++)
        finish_row(finish, at->c + i * at->c_row, sums + i * vectors, at->bias,
                   at->other + i * at->other_row, at->columns, vectors);
}

#define EACH_FINISH(finish, call)                                                                \
    switch (finish) {                                                                            \
    case STORE: call(STORE); break;                                                              \
    case ADD_BIAS: call(ADD_BIAS); break;                                                        \
    case ADD_BIAS_RELU: call(ADD_BIAS_RELU); break;                                              \
    case MASK: call(MASK); break;                                                                \
    case ROW_PRODUCT: call(ROW_PRODUCT); break;                                                  \
    }

/* How a float32 product is cut: registers and columns of a panel, rows that are done at once, and whether B is
 * read where it lies: its columns lie one after the other, and its rows are read in whole pieces of a size
 * that the cache keeps beside each other, or a few times only. */
struct cut {
    int vectors, rows, direct;
    int64_t width;
};

static struct cut cut_of(const struct operation *op)
{
    struct cut cut = {.vectors = op->n <= LANES ? 1 : VECTORS};
    cut.rows = cut.vectors == 1 ? NARROW_ROWS : ROWS;
    cut.width = cut.vectors * LANES;
    cut.direct = op->b_col == 1 && op->n % cut.width == 0 && (cut.width >= DIRECT || op->m <= cut.rows);
    return cut;
}

/* Rows `from` to `to`. */
static void float32_rows(const struct operation *op, int64_t member, const float *packed, int64_t from,
                         int64_t to)
{
    const float *a = a_of(op, member), *b = b_of(op, member);
    struct cut cut = cut_of(op);
    for (int64_t i0 = from, step; i0 < to; i0 += step) {
        const float *rows[MOST_SUMS];
        step = to - i0 >= cut.rows ? cut.rows : 1;
        for (int64_t i = 0; i < step; i++) rows[i] = a + (i0 + i) * op->a_row;
        for (int64_t j0 = 0; j0 < op->n; j0 += cut.width) {
            const float *panel = cut.direct ? b + j0 : packed + j0 * op->k;
            int64_t panel_row = cut.direct ? op->b_row : cut.width;
            struct place at = place_of(op, member, i0, j0, cut.width);
#define BLOCK(finish)                                                                            \
    if (step == 1 && cut.vectors == 1)                                                           \
        block(finish, 1, 1, rows, op->a_col, op->k, panel, panel_row, &at);                      \
    else if (step == 1)                                                                          \
        block(finish, 1, VECTORS, rows, op->a_col, op->k, panel, panel_row, &at);                \
    else if (cut.vectors == 1)                                                                   \
        block(finish, NARROW_ROWS, 1, rows, op->a_col, op->k, panel, panel_row, &at);            \
    else                                                                                         \
        block(finish, ROWS, VECTORS, rows, op->a_col, op->k, panel, panel_row, &at)
            EACH_FINISH(op->finish, BLOCK)
#undef BLOCK
        }
    }
}

/* A few columns, the depth contiguous in both factors: products of rows, without packing. */
static void float32_dots(const struct operation *op, int64_t member, int64_t from, int64_t to)
{
    const float *a = a_of(op, member), *b = b_of(op, member);
    for (int64_t i = from; i < to; i++) {
        const float *left = a + i * op->a_row;
        lanes sums = {0};
        for (int64_t j = 0; j < op->n; j++) {
            const float *right = b + j * op->b_col;
            lanes total[4] = {{0}};
            int64_t p = 0;
            for (; p + 4 * LANES <= op->k; p += 4 * LANES)
                for (int v = 0; v < 4; v++)
                    total[v] += *(const lanes *)(left + p + v * LANES) * *(const lanes *)(right + p + v * LANES);
            float rest = 0.0f;
            for (; p < op->k; p++) rest += left[p] * right[p];
            sums[j] = sum((total[0] + total[1]) + (total[2] + total[3])) + rest;
        }
        struct place at = place_of(op, member, i, 0, FEW);
#define ROW(finish) finish_row(finish, at.c, &sums, at.bias, at.other, at.columns, 1)
        EACH_FINISH(op->finish, ROW)
#undef ROW
    }
}

/* --- bfloat16 --------------------------------------------------------------------------------- */

#ifdef HAVE_BFLOAT16

/* 16 rows by 16 pairs: the form in which a tile holds A, pairs along the depth. Its transpose, 16 pairs
 * by 16 columns, is the form of B. */
struct tile {
    __m512i line[16];
};

static void transpose(struct tile *t)
{
    __m512i u[16];
    for (int i = 0; i < 8; i++) {
        u[2 * i] = _mm512_unpacklo_epi32(t->line[2 * i], t->line[2 * i + 1]);
        u[2 * i + 1] = _mm512_unpackhi_epi32(t->line[2 * i], t->line[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {
        t->line[4 * i] = _mm512_unpacklo_epi64(u[4 * i], u[4 * i + 2]);
        t->line[4 * i + 1] = _mm512_unpackhi_epi64(u[4 * i], u[4 * i + 2]);
        t->line[4 * i + 2] = _mm512_unpacklo_epi64(u[4 * i + 1], u[4 * i + 3]);
        t->line[4 * i + 3] = _mm512_unpackhi_epi64(u[4 * i + 1], u[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        u[i] = _mm512_shuffle_i32x4(t->line[i], t->line[i + 4], 0x88);
        u[i + 4] = _mm512_shuffle_i32x4(t->line[i], t->line[i + 4], 0xdd);
        u[i + 8] = _mm512_shuffle_i32x4(t->line[i + 8], t->line[i + 12], 0x88);
        u[i + 12] = _mm512_shuffle_i32x4(t->line[i + 8], t->line[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        t->line[i] = _mm512_shuffle_i32x4(u[i], u[i + 8], 0x88);
        t->line[i + 8] = _mm512_shuffle_i32x4(u[i], u[i + 8], 0xdd);
        t->line[i + 4] = _mm512_shuffle_i32x4(u[i + 4], u[i + 12], 0x88);
        t->line[i + 12] = _mm512_shuffle_i32x4(u[i + 4], u[i + 12], 0xdd);
    }
}

static __mmask16 first(int64_t count) { return (__mmask16)(count >= 16 ? 0xffff : (1 << (count < 0 ? 0 : count)) - 1); }

/* 16 entries by 32 deep of a matrix whose entries (rows of A, columns of B) and depth have the given
 * strides, one of them 1; what lies outside is zero. `entries_first`: the form of A, else that of B. */
static void pack_tile(const float *from, int64_t entry, int64_t depth, int64_t entries, int64_t deep,
                      int entries_first, struct tile *to)
{
    if (depth == 1) {
        for (int64_t i = 0; i < 16; i++) {
            const float *line = from + i * entry;
            int64_t left = i < entries ? deep : 0;
            __m512 low = _mm512_maskz_loadu_ps(first(left), line);
            __m512 high = _mm512_maskz_loadu_ps(first(left - 16), line + 16);
            to->line[i] = (__m512i)_mm512_cvtne2ps_pbh(high, low);
        }
        if (!entries_first) transpose(to);
        return;
    }
    for (int64_t p = 0; p < 16; p++) {
        const float *line = from + 2 * p * depth;
        __mmask16 even = 2 * p < deep ? first(entries) : 0, odd = 2 * p + 1 < deep ? first(entries) : 0;
        __m256i low = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(even, line));
        __m256i high = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(odd, line + depth));
        to->line[p] = _mm512_or_si512(_mm512_cvtepu16_epi32(low),
                                      _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
    }
    if (entries_first) transpose(to);
}

/* Tiles of 16 entries, along the depth first. */
static void pack_tiles(const float *from, int64_t entry, int64_t depth, int64_t entries, int64_t deep,
                       int entries_first, struct tile *to)
{
    for (int64_t i = 0; i < padded(entries, TILE); i += 16)
        for (int64_t p = 0; p < deep; p += 32)
            pack_tile(from + i * entry + p * depth, entry, depth, entries - i, deep - p, entries_first, to++);
}

/* Sums of a block of 32 by 32: two lines of tiles of A, each `deep` tiles long, and two of B. */
#ifdef HAVE_TILES

static void block_of_sums(const struct tile *a, const struct tile *b, int64_t deep, float *sums)
{
    __asm__ volatile("" : : : "memory"); /* some compilers do not know that tiles are loaded from memory */
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t p = 0; p < deep; p++) {
        _tile_loadd(4, a + p, 64);
        _tile_loadd(5, a + p + deep, 64);
        _tile_loadd(6, b + p, 64);
        _tile_loadd(7, b + p + deep, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, TILE * sizeof(float));
    _tile_stored(1, sums + 16, TILE * sizeof(float));
    _tile_stored(2, sums + 16 * TILE, TILE * sizeof(float));
    _tile_stored(3, sums + 16 * TILE + 16, TILE * sizeof(float));
    __asm__ volatile("" : : : "memory"); /* nor that they are stored to it */
}

#else

static void block_of_sums(const struct tile *a, const struct tile *b, int64_t deep, float *sums)
{
    enum { AT_ONCE = 8 }; /* rows whose sums stay in registers */
    for (int i0 = 0; i0 < TILE; i0 += AT_ONCE, sums += AT_ONCE * TILE) {
        const struct tile *rows = a + i0 / 16 * deep;
        __m512 low[AT_ONCE], high[AT_ONCE];
        for (int i = 0; i < AT_ONCE; i++) low[i] = high[i] = _mm512_setzero_ps();
        for (int64_t p = 0; p < deep; p++) {
            const int32_t *pairs = (const int32_t *)&rows[p].line[i0 % 16];
            for (int pair = 0; pair < 16; pair++) {
                __m512bh left = (__m512bh)b[p].line[pair], right = (__m512bh)b[p + deep].line[pair];
                for (int i = 0; i < AT_ONCE; i++) {
                    __m512bh x = (__m512bh)_mm512_set1_epi32(pairs[16 * i + pair]);
                    low[i] = _mm512_dpbf16_ps(low[i], x, left);
                    high[i] = _mm512_dpbf16_ps(high[i], x, right);
                }
            }
        }
        for (int i = 0; i < AT_ONCE; i++) {
            _mm512_store_ps(sums + i * TILE, low[i]);
            _mm512_store_ps(sums + i * TILE + 16, high[i]);
        }
    }
}

#endif

/* Rows `from` to `to`; `left` holds the tiles of 32 rows of A. */
static void bfloat16_rows(const struct operation *op, int64_t member, const struct tile *right,
                          struct tile *left, int64_t from, int64_t to)
{
    const float *a = a_of(op, member);
    float sums[TILE * TILE] __attribute__((aligned(64)));
    int64_t deep = padded(op->k, 32) / 32;
    for (int64_t i0 = from; i0 < to; i0 += TILE) {
        int64_t rows = smaller(TILE, to - i0);
        pack_tiles(a + i0 * op->a_row, op->a_row, op->a_col, rows, op->k, 1, left);
        for (int64_t j0 = 0; j0 < op->n; j0 += TILE) {
            block_of_sums(left, right + j0 / 16 * deep, deep, sums);
            struct place at = place_of(op, member, i0, j0, TILE);
#define ROWS_OF_BLOCK(finish)                                                                    \
    for (int64_t i = 0; i < rows; i++)                                                           \
        finish_row(finish, at.c + i * at.c_row, (const lanes *)(sums + i * TILE), at.bias,       \
                   at.other + i * at.other_row, at.columns, TILE / LANES)
            EACH_FINISH(op->finish, ROWS_OF_BLOCK)
#undef ROWS_OF_BLOCK
        }
    }
}

#endif

#ifdef HAVE_TILES

static void configure_tiles(void)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } tiles;
    memset(&tiles, 0, sizeof tiles);
    tiles.palette = 1;
    for (int i = 0; i < 8; i++) {
        tiles.bytes[i] = 64;
        tiles.rows[i] = 16;
    }
    /* Some compilers do not know that the whole of it is read. */
    __asm__ volatile("" : : "r"(&tiles) : "memory");
    _tile_loadconfig(&tiles);
}

#endif

/* --- threads ------------------------------------------------------------------------------------ */

/* Helpers take items of a job as its caller does, one at a time. The caller waits for no item but those that a
 * helper has begun: one that sleeps, or whose core is busy, costs nothing. Idle helpers look for a job for some
 * microseconds, as the next one is usually near, and then sleep. */
enum { MOST_THREADS = 16, LOOKS = 4000 };

typedef void work_function(void *context, int64_t item, int thread);

static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    atomic_int in_use, sleeping, wanted; /* of a caller; helpers; helpers that may work */
    atomic_uint_least64_t ticket;        /* items of the job, and the next of them: 32 bits each */
    atomic_int_least64_t done;           /* items that helpers have finished */
    work_function *work;
    void *context;
    int started;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void rest(void)
{
#if defined(__x86_64__) || defined(__i386__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int has_items(uint64_t ticket) { return (ticket & 0xffffffff) < ticket >> 32; }

/* The next item of the job, or -1. The ticket tells both at once, so that a claim that comes too late for one
 * job never takes an item of the next by that job's number of items. */
static int64_t claimed(void)
{
    if (!has_items(atomic_load(&pool.ticket))) return -1;
    uint64_t ticket = atomic_fetch_add(&pool.ticket, 1);
    return has_items(ticket) ? (int64_t)(ticket & 0xffffffff) : -1;
}

static void *help(void *number)
{
    int thread = (int)(intptr_t)number;
    for (int looks = 0;; looks++) {
        int64_t item = thread <= atomic_load(&pool.wanted) ? claimed() : -1;
        if (item >= 0) {
            pool.work(pool.context, item, thread);
            atomic_fetch_add(&pool.done, 1);
            looks = 0;
        } else if (looks < LOOKS) {
            rest();
        } else {
            pthread_mutex_lock(&pool.lock);
            atomic_fetch_add(&pool.sleeping, 1);
            while (thread > atomic_load(&pool.wanted) || !has_items(atomic_load(&pool.ticket)))
                pthread_cond_wait(&pool.wake, &pool.lock);
            atomic_fetch_sub(&pool.sleeping, 1);
            pthread_mutex_unlock(&pool.lock);
            looks = 0;
        }
    }
    return NULL;
}

/* A forked process has none of the threads, and perhaps a lock that one of them held. */
static void forget_helpers(void)
{
    pool.lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    pool.wake = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    atomic_store(&pool.in_use, 0);
    atomic_store(&pool.sleeping, 0);
    atomic_store(&pool.wanted, 0);
    pool.started = 0;
}

static void watch_forks(void) { pthread_atfork(NULL, NULL, forget_helpers); }

/* Let this many threads, the caller's included, share the rows from now on. */
void use_threads(int threads)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int wanted = threads > MOST_THREADS ? MOST_THREADS - 1 : threads - 1;
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&pool.lock);
    while (pool.started < wanted) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, help, (void *)(intptr_t)(pool.started + 1)) != 0) break;
        pthread_detach(thread);
        pool.started++;
    }
    atomic_store(&pool.wanted, wanted);
    pthread_mutex_unlock(&pool.lock);
}

/* Do the items of a job. One caller at a time has helpers. */
static void share(work_function *work, void *context, int64_t items)
{
    if (items < 2 || atomic_load(&pool.wanted) < 1 || atomic_exchange(&pool.in_use, 1)) {
        for (int64_t item = 0; item < items; item++) work(context, item, 0);
        return;
    }
    pool.work = work;
    pool.context = context;
    atomic_store(&pool.done, 0);
    atomic_store(&pool.ticket, (uint64_t)items << 32);
    if (atomic_load(&pool.sleeping) > 0) {
        pthread_mutex_lock(&pool.lock);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.lock);
    }
    int64_t own = 0, item;
    for (; (item = claimed()) >= 0; own++) work(context, item, 0);
    for (int64_t looks = 0; own + atomic_load(&pool.done) < items; looks++) {
        if (looks < LOOKS) rest();
        else sched_yield();
    }
    atomic_store(&pool.in_use, 0);
}

/* --- what Python calls ------------------------------------------------------------------------ */

/* Whether `run` uses bfloat16 where it may: the kernel must let the process use tiles first. */
int has_bfloat16(void)
{
#ifdef HAVE_TILES
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#elif defined(HAVE_BFLOAT16)
    return 1;
#else
    return 0;
#endif
}

enum { SUMS, DOTS, FLOAT32, BFLOAT16 };

static int kernel_of(const struct operation *op)
{
    if (op->finish == COLUMN_SUMS) return SUMS;
#ifdef HAVE_BFLOAT16
    if (op->bfloat16) return BFLOAT16;
#endif
    return op->n <= FEW && op->a_col == 1 && op->b_row == 1 ? DOTS : FLOAT32;
}

/* Columns of B that are packed as one item. */
static int64_t packed_at_once(const struct operation *op)
{
    switch (kernel_of(op)) {
    case BFLOAT16: return 2 * TILE;
    case FLOAT32: return cut_of(op).direct ? 0 : cut_of(op).width;
    default: return 0;
    }
}

/* Rows that are done as one item: a few blocks. */
static int64_t rows_at_once(const struct operation *op)
{
    return kernel_of(op) == BFLOAT16 ? TILE : kernel_of(op) == FLOAT32 ? 3 * cut_of(op).rows : 16;
}

/* Bytes of B as it is packed, and of 32 rows of A. */
static int64_t right_bytes(const struct operation *op)
{
    if (packed_at_once(op) == 0) return 0;
    if (kernel_of(op) == BFLOAT16) return padded(op->n, TILE) / 16 * (padded(op->k, 32) / 32) * 1024;
    return padded(padded(op->n, cut_of(op).width) * op->k * (int64_t)sizeof(float), 64);
}

static int64_t left_bytes(const struct operation *op)
{
    return kernel_of(op) == BFLOAT16 ? 2 * (padded(op->k, 32) / 32) * 1024 : 0;
}

/* Bytes of workspace that operations need. */
int64_t workspace_bytes(const struct operation *operations, int64_t count)
{
    int64_t right = 0, left = 0;
    for (int64_t i = 0; i < count; i++) {
        right += right_bytes(operations + i);
        if (left_bytes(operations + i) > left) left = left_bytes(operations + i);
    }
    return right + MOST_THREADS * left;
}

static void column_sums(const struct operation *op, int64_t member)
{
    float *c = op->c + member * op->c_member;
    memset(c, 0, op->n * sizeof(float));
    for (int64_t i = 0; i < op->m; i++) {
        const float *row = a_of(op, member) + i * op->a_row;
        for (int64_t j = 0; j < op->n; j++) c[j] += row[j];
    }
}

struct adam {
    int64_t n;
    float *parameter, *first_moment, *second_moment;
    const float *gradient;
    float keep1, add1, keep2, add2, size, root, small;
};

enum { PARAMETERS_AT_ONCE = 8192 };

static void adam_item(void *context, int64_t item, int thread)
{
    const struct adam *s = context;
    (void)thread;
    for (int64_t i = item * PARAMETERS_AT_ONCE; i < smaller(s->n, (item + 1) * PARAMETERS_AT_ONCE); i++) {
        float g = s->gradient[i];
        float m = s->first_moment[i] = s->keep1 * s->first_moment[i] + s->add1 * g;
        float v = s->second_moment[i] = s->keep2 * s->second_moment[i] + s->add2 * g * g;
        s->parameter[i] -= s->size * m / (sqrtf(v) / s->root + s->small);
    }
}

/* Step number `step` of Adam on n parameters. */
void adam(int64_t n, float *parameter, const float *gradient, float *first_moment, float *second_moment,
          double rate, double beta1, double beta2, double epsilon, double step)
{
    struct adam context = {
        .n = n,
        .parameter = parameter,
        .first_moment = first_moment,
        .second_moment = second_moment,
        .gradient = gradient,
        .keep1 = (float)beta1,
        .add1 = (float)(1.0 - beta1),
        .keep2 = (float)beta2,
        .add2 = (float)(1.0 - beta2),
        .size = (float)(rate / (1.0 - pow(beta1, step))),
        .root = (float)sqrt(1.0 - pow(beta2, step)),
        .small = (float)epsilon,
    };
    share(adam_item, &context, padded(n, PARAMETERS_AT_ONCE) / PARAMETERS_AT_ONCE);
}

/* Operations on one member that can be done at once: chains of operations on the same rows. */
enum { MOST_AT_ONCE = 32 };

struct stage {
    const struct operation *operations;
    int64_t member;
    int count, chains;
    int first[MOST_AT_ONCE + 1];                  /* operation of a chain */
    int64_t height[MOST_AT_ONCE];                 /* rows of an item of a chain */
    int64_t item[MOST_AT_ONCE + 1];               /* of a chain, the first */
    int64_t packing[MOST_AT_ONCE + 1];            /* of an operation, the first item of packing */
    char *right[MOST_AT_ONCE];                    /* of an operation, B as it is packed */
    char *left;                                   /* of all threads, rows of A */
    int64_t left_bytes;
};

static void pack_item(void *context, int64_t item, int thread)
{
    const struct stage *stage = context;
    int number = 0;
    (void)thread;
    while (item >= stage->packing[number + 1]) number++;
    const struct operation *op = stage->operations + number;
    int64_t width = packed_at_once(op), j0 = (item - stage->packing[number]) * width;
    int64_t columns = smaller(width, op->n - j0);
    const float *b = b_of(op, stage->member) + j0 * op->b_col;
#ifdef HAVE_BFLOAT16
    if (kernel_of(op) == BFLOAT16) {
        int64_t deep = padded(op->k, 32) / 32;
        struct tile *to = (struct tile *)stage->right[number] + j0 / 16 * deep;
        pack_tiles(b, op->b_col, op->b_row, columns, op->k, 0, to);
        return;
    }
#endif
    pack_panel(b, op->b_row, op->b_col, op->k, columns, width, (float *)stage->right[number] + j0 * op->k);
}

static void stage_item(void *context, int64_t item, int thread)
{
    const struct stage *stage = context;
    int chain = 0;
    (void)thread; /* for bfloat16 alone */
    while (item >= stage->item[chain + 1]) chain++;
    int64_t from = (item - stage->item[chain]) * stage->height[chain];
#ifdef HAVE_TILES
    int tiles = 0;
#endif
    for (int number = stage->first[chain]; number < stage->first[chain + 1]; number++) {
        const struct operation *op = stage->operations + number;
        int64_t to = smaller(op->m, from + stage->height[chain]);
        switch (kernel_of(op)) {
        case SUMS: column_sums(op, stage->member); break;
        case DOTS: float32_dots(op, stage->member, from, to); break;
        case FLOAT32:
            float32_rows(op, stage->member, (const float *)stage->right[number], from, to);
            break;
#ifdef HAVE_BFLOAT16
        case BFLOAT16:
#ifdef HAVE_TILES
            if (!tiles) configure_tiles();
            tiles = 1;
#endif
            bfloat16_rows(op, stage->member, (const struct tile *)stage->right[number],
                          (struct tile *)(stage->left + thread * stage->left_bytes), from, to);
            break;
#endif
        }
    }
#ifdef HAVE_TILES
    if (tiles) _tile_release();
#endif
}

/* The operations from the first that need nothing of each other; returns how many were done. */
static int run_stage(const struct operation *operations, int64_t count, int64_t member, char *workspace)
{
    struct stage stage = {.operations = operations, .member = member, .left = workspace};
    for (; stage.count < count && stage.count < MOST_AT_ONCE; stage.count++) {
        const struct operation *op = operations + stage.count;
        if (stage.count > 0 && op->needs == EVERYTHING) break;
        if (left_bytes(op) > stage.left_bytes) stage.left_bytes = left_bytes(op);
    }
    workspace += MOST_THREADS * stage.left_bytes;
    for (int number = 0; number < stage.count; number++) {
        const struct operation *op = operations + number;
        int64_t width = packed_at_once(op), items = width ? padded(op->n, width) / width : 0;
        stage.packing[number + 1] = stage.packing[number] + items;
        stage.right[number] = workspace;
        workspace += right_bytes(op);
        if (number == 0 || op->needs == NOTHING) {
            stage.first[stage.chains] = number;
            stage.height[stage.chains++] = 0;
        }
        if (rows_at_once(op) > stage.height[stage.chains - 1])
            stage.height[stage.chains - 1] = rows_at_once(op);
    }
    stage.first[stage.chains] = stage.count;
    for (int chain = 0; chain < stage.chains; chain++) {
        const struct operation *op = operations + stage.first[chain];
        int64_t rows = op->finish == COLUMN_SUMS ? 1 : op->m;
        stage.item[chain + 1] = stage.item[chain] + padded(rows, stage.height[chain]) / stage.height[chain];
    }
    share(pack_item, &stage, stage.packing[stage.count]);
    share(stage_item, &stage, stage.item[stage.chains]);
    return stage.count;
}

/* Run operations one after the other, all of them for one member before the next: what one leaves in the
 * cache, the next still finds there. The workspace is aligned to 64 bytes. */
void run(const struct operation *operations, int64_t count, int64_t members, char *workspace)
{
    for (int64_t member = 0; member < members; member++)
        for (int64_t done = 0; done < count;)
            done += run_stage(operations + done, count - done, member, workspace);
}
