/* Matrix products of small networks with what follows each of them done while the result is at hand.
 *
 * One operation is C = finish(A B): A is m x k, B is k x n, both float32 with any strides. Two kernels
 * compute the sums: vectors of float32, on any processor a C compiler knows, and, where the caller
 * allows bfloat16 factors and the processor multiplies them, blocks of bfloat16 with float32 sums, by its
 * matrix units (AMX) or by vectors (AVX-512 BF16).
 * Finishing adds a bias, applies ReLU, masks by an activation, or reduces rows against another matrix,
 * so that no result is written to be read again at once.
 *
 * Single-threaded, no state: all memory belongs to the caller.
 */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __AVX512BF16__
#define HAVE_BFLOAT16 1
#include <immintrin.h>
#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__linux__)
#define HAVE_TILES 1
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

enum { STORE, ADD_BIAS, ADD_BIAS_RELU, MASK, ROW_PRODUCT, COLUMN_SUMS };

struct operation {
    int64_t finish;               /* one of the above */
    int64_t bfloat16;             /* whether factors may be rounded to bfloat16 */
    int64_t m, n, k;              /* of every member */
    const float *a;
    int64_t a_row, a_col, a_member;
    const float *b;
    int64_t b_row, b_col, b_member;
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
#define FEW 4                     /* columns that are computed as products of rows */
#define TILE 32                   /* rows and columns of a bfloat16 block, and its depth */

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

/* B as panels of `width` columns, row by row, padded with zeros. */
static void pack_panels(const float *b, int64_t row, int64_t col, int64_t k, int64_t n, int64_t width,
                        float *packed)
{
    for (int64_t j0 = 0; j0 < n; j0 += width) {
        int64_t columns = smaller(width, n - j0);
        for (int64_t p = 0; p < k; p++, packed += width) {
            const float *from = b + p * row + j0 * col;
            if (col == 1 && columns == width) {
                memcpy(packed, from, width * sizeof(float));
                continue;
            }
            for (int64_t j = 0; j < width; j++) packed[j] = j < columns ? from[j * col] : 0.0f;
        }
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

static void float32_product(const struct operation *op, int64_t member, const float *a, const float *b,
                            char *workspace)
{
    int vectors = op->n <= LANES ? 1 : VECTORS, most = vectors == 1 ? NARROW_ROWS : ROWS;
    int64_t width = vectors * LANES, step;
    /* Where a panel is read a few times only, or lies as it should, it is read where it lies. */
    int direct = op->b_col == 1 && op->n % width == 0 && op->m <= most;
    if (!direct) pack_panels(b, op->b_row, op->b_col, op->k, op->n, width, (float *)workspace);
    for (int64_t i0 = 0; i0 < op->m; i0 += step) {
        const float *rows[MOST_SUMS];
        step = op->m - i0 >= most ? most : 1;
        for (int64_t i = 0; i < step; i++) rows[i] = a + (i0 + i) * op->a_row;
        for (int64_t j0 = 0; j0 < op->n; j0 += width) {
            const float *panel = direct ? b + j0 : (const float *)workspace + j0 * op->k;
            int64_t panel_row = direct ? op->b_row : width;
            struct place at = place_of(op, member, i0, j0, width);
#define BLOCK(finish)                                                                            \
    if (step == 1 && vectors == 1)                                                               \
        block(finish, 1, 1, rows, op->a_col, op->k, panel, panel_row, &at);                      \
    else if (step == 1)                                                                          \
        block(finish, 1, VECTORS, rows, op->a_col, op->k, panel, panel_row, &at);                \
    else if (vectors == 1)                                                                       \
        block(finish, NARROW_ROWS, 1, rows, op->a_col, op->k, panel, panel_row, &at);            \
    else                                                                                         \
        block(finish, ROWS, VECTORS, rows, op->a_col, op->k, panel, panel_row, &at)
            EACH_FINISH(op->finish, BLOCK)
#undef BLOCK
        }
    }
}

/* A few columns, the depth contiguous in both factors: products of rows, without packing. */
static void float32_dots(const struct operation *op, int64_t member, const float *a, const float *b)
{
    for (int64_t i = 0; i < op->m; i++) {
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

static void bfloat16_product(const struct operation *op, int64_t member, const float *a, const float *b,
                             char *workspace)
{
    float sums[TILE * TILE] __attribute__((aligned(64)));
    int64_t deep = padded(op->k, 32) / 32;
    struct tile *left = (struct tile *)workspace, *right = left + 2 * deep;
    pack_tiles(b, op->b_col, op->b_row, op->n, op->k, 0, right);
    for (int64_t i0 = 0; i0 < op->m; i0 += TILE) {
        int64_t rows = smaller(TILE, op->m - i0);
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

int64_t operation_bytes(void) { return sizeof(struct operation); }

/* Bytes of workspace that an operation needs. */
int64_t workspace_bytes(const struct operation *op)
{
    int64_t floats = padded(op->n, COLUMNS) * op->k * (int64_t)sizeof(float);
    int64_t tiles = (padded(op->n, TILE) + TILE) / 16 * (padded(op->k, 32) / 32) * 1024;
    return floats > tiles ? floats : tiles;
}

static void column_sums(const struct operation *op, int64_t member)
{
    float *c = op->c + member * op->c_member;
    memset(c, 0, op->n * sizeof(float));
    for (int64_t i = 0; i < op->m; i++) {
        const float *row = op->a + member * op->a_member + i * op->a_row;
        for (int64_t j = 0; j < op->n; j++) c[j] += row[j];
    }
}

/* Step number `step` of Adam on n parameters. */
void adam(int64_t n, float *parameter, const float *gradient, float *first_moment, float *second_moment,
          double rate, double beta1, double beta2, double epsilon, double step)
{
    float keep1 = (float)beta1, add1 = (float)(1.0 - beta1);
    float keep2 = (float)beta2, add2 = (float)(1.0 - beta2);
    float size = (float)(rate / (1.0 - pow(beta1, step))), small = (float)epsilon;
    float root = (float)sqrt(1.0 - pow(beta2, step));
    for (int64_t i = 0; i < n; i++) {
        float g = gradient[i];
        float m = first_moment[i] = keep1 * first_moment[i] + add1 * g;
        float v = second_moment[i] = keep2 * second_moment[i] + add2 * g * g;
        parameter[i] -= size * m / (sqrtf(v) / root + small);
    }
}

static void compute(const struct operation *op, int64_t member, char *workspace)
{
    const float *a = op->a + member * op->a_member, *b = op->b + member * op->b_member;
    if (op->finish == COLUMN_SUMS)
        column_sums(op, member);
#ifdef HAVE_BFLOAT16
    else if (op->bfloat16)
        bfloat16_product(op, member, a, b, workspace);
#endif
    else if (op->n <= FEW && op->a_col == 1 && op->b_row == 1)
        float32_dots(op, member, a, b);
    else
        float32_product(op, member, a, b, workspace);
}

/* Run operations one after the other, all of them for one member before the next: what one leaves in the
 * cache, the next still finds there. The workspace is aligned to 64 bytes. */
void run(const struct operation *operations, int64_t count, int64_t members, char *workspace)
{
    int tiles = 0;
    for (int64_t i = 0; i < count; i++) tiles |= operations[i].bfloat16 != 0;
#ifdef HAVE_TILES
    if (tiles) configure_tiles();
#endif
    for (int64_t member = 0; member < members; member++)
        for (int64_t i = 0; i < count; i++) compute(operations + i, member, workspace);
#ifdef HAVE_TILES
    if (tiles) _tile_release();
#else
    (void)tiles;
#endif
}
