// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of the engine that need no image of a builder: name order, look-up over every length of
 * name, bounds of the region, attribute sets. Says nothing if all is well.
 */
#include "../engine.h"

#define BLOCK	DAXFS_BLOCK_SIZE

static int failures;

#define EXPECT(condition)								\
	do {										\
		if (!(condition)) {							\
			fprintf(stderr, "line %d: %s\n", __LINE__, #condition);		\
			failures++;							\
		}									\
	} while (0)

static u8 memory[64 * BLOCK];
static struct daxfs_region region = { memory, sizeof(memory) };

static void region_is_bounded(void)
{
	static const struct {
		u64 offset, len;
		bool inside;
	} table[] = {
		{ 0, 0, true }, { 0, sizeof(memory), true }, { 0, sizeof(memory) + 1, false },
		{ sizeof(memory), 0, true }, { sizeof(memory), 1, false },
		{ sizeof(memory) + 1, 0, false }, { U64_MAX, 1, false }, { 1, U64_MAX, false },
		{ U64_MAX, U64_MAX, false }, { 100, sizeof(memory) - 100, true },
	};
	struct daxfs_error err;
	u8 byte;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		EXPECT(daxfs_region_holds(&region, table[i].offset, table[i].len) ==
		       table[i].inside);
	EXPECT(!daxfs_region_read(&region, sizeof(memory) - 1, &byte, 1, &err));
	EXPECT(daxfs_region_read(&region, sizeof(memory), &byte, 1, &err) == -EUCLEAN);
}

static void checksum_is_crc32c(void)
{
	/* The check value of the catalogues. */
	EXPECT(daxfs_crc32c(0, "123456789", 9) == 0xe3069283);
	EXPECT(daxfs_crc32c(daxfs_crc32c(0, "1234", 4), "56789", 5) == 0xe3069283);
	EXPECT(!daxfs_crc32c(0, "", 0));
}

static struct daxfs_dirent make_dirent(const char *name, size_t len, u32 ino)
{
	struct daxfs_dirent entry = { .ino = ino, .name_len = len };

	memcpy(entry.name, name, len);
	return entry;
}

static void names_are_judged(void)
{
	static const struct {
		const char *name;
		size_t len;
		bool legal;
	} table[] = {
		{ "a", 1, true }, { ".", 1, false }, { "..", 2, false }, { "...", 3, true },
		{ ".a", 2, true }, { "a/b", 3, false }, { "a\0b", 3, false }, { "", 0, false },
		{ "/", 1, false }, { "\xff", 1, true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct daxfs_dirent entry = make_dirent(table[i].name, table[i].len, 1);

		EXPECT(daxfs_name_is_legal(&entry) == table[i].legal);
	}
}

/*
 * Every name of up to 20 bytes over two letters that differ in sign, and none but those: in order,
 * in another order with an index, and with rubbish behind the names.
 */
static void every_name_is_found(bool sorted)
{
	struct daxfs_base base = { .region = &region, .size = sizeof(memory) };
	struct daxfs_node dir = { .mode = S_IFDIR, .data = BLOCK };
	struct daxfs_dirent *entries = (struct daxfs_dirent *)(memory + BLOCK);
	struct daxfs_error err;
	u32 *order = NULL, next, ino, count = 0;
	size_t len, last;

	memset(memory, sorted ? 0 : 0xa5, sizeof(memory));
	/* Sorted: 0xff alone, then runs of 'a' that end in 'a' or 0xff, longer ones first or last. */
	for (len = 1; len <= 20; len++)
		for (last = 0; last < 2; last++) {
			struct daxfs_dirent entry;
			char name[20];

			memset(name, 'a', sizeof(name));
			name[len - 1] = last ? 0xff : 'a';
			entry = make_dirent(name, len, 2 * len + last);
			if (!sorted)
				memset(entry.name + len, 0xa5, sizeof(entry.name) - len);
			entries[count++] = entry;
		}
	dir.size = count * sizeof(*entries);
	order = daxfs_base_order(&base, &dir, &err);
	EXPECT(!IS_ERR(order));
	if (sorted) {
		struct daxfs_dirent copy[40];

		for (u32 i = 0; i < count; i++)
			copy[i] = entries[order[i]];
		memcpy(entries, copy, dir.size);
		kvfree(order);
		order = NULL;
	}
	/* Every name from every beginning, one of them behind the end. */
	for (u32 i = 0; i < count * (count + 1); i++) {
		u32 at = i / (count + 1), position = order ? order[at] : at;
		size_t name_len = entries[position].name_len;
		char name[DAXFS_NAME_MAX];

		memcpy(name, entries[position].name, name_len);
		next = i % (count + 1);
		EXPECT(!daxfs_base_lookup(&base, &dir, order, name, name_len, &next, &ino, &err));
		EXPECT(ino == entries[position].ino);
		EXPECT(next == at + 1);
		name[name_len - 1] = 'b';
		next = i % (count + 1);
		EXPECT(daxfs_base_lookup(&base, &dir, order, name, name_len, &next, &ino, &err) ==
		       -ENOENT);
	}
	kvfree(order);
}

static void lookup_stays_inside(void)
{
	struct daxfs_base base = { .region = &region, .size = sizeof(memory) };
	struct daxfs_node dir = { .mode = S_IFDIR, .data = sizeof(memory) - 144, .size = 288 };
	struct daxfs_error err;
	u32 next = 0, ino;

	EXPECT(daxfs_base_lookup(&base, &dir, NULL, "a", 1, &next, &ino, &err) == -EUCLEAN);
	dir.data = U64_MAX - 100;
	EXPECT(daxfs_base_lookup(&base, &dir, NULL, "a", 1, &next, &ino, &err) == -EUCLEAN);
}

static void attribute_sets_are_judged(void)
{
	static const struct {
		const char *why;
		u8 at, value;
		int entries;	/* or an errno */
	} table[] = {
		{ "as it is", 64, 0, 2 },
		{ "size of no whole words", 0, 55, -EUCLEAN },
		{ "size beyond the region", 1, 0xff, -EUCLEAN },
		{ "size below the header", 0, 8, -EUCLEAN },
		{ "an entry too many", 8, 3, -EUCLEAN },
		{ "an entry too few", 8, 1, -EUCLEAN },
		{ "padding", 12, 1, -EUCLEAN },
		{ "no name", 16, 0, -EUCLEAN },
		{ "a name too long", 17, 1, -EUCLEAN },
		{ "a value too long", 22, 2, -EUCLEAN },
		{ "padding of an entry", 18, 1, -EUCLEAN },
		{ "padding of a name", 31, 1, -EUCLEAN },
		{ "NUL in a name", 24, 0, -EUCLEAN },
		{ "names in another order", 24, 'z', -EUCLEAN },
	};
	/* a.x=1 and b.x=23 */
	static const u8 set[56] = {
		[0] = 56, [8] = 2,
		[16] = 3, [20] = 1, [24] = 'a', '.', 'x', '1',
		[32] = 3, [36] = 2, [40] = 'b', '.', 'x', '2', '3',
	};
	struct daxfs_base base = { .region = &region, .xattr_start = BLOCK,
				   .xattr_end = BLOCK + 48 };

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct daxfs_xattr entry;
		struct daxfs_xattrs xattrs;
		struct daxfs_error err;
		int ret, count = 0;

		memset(memory, 0, sizeof(memory));
		memcpy(memory + BLOCK, set, sizeof(set));
		memory[BLOCK] = 48;
		if (table[i].at < 64)
			memory[BLOCK + table[i].at] = table[i].value;
		ret = daxfs_xattrs_open(&base, BLOCK, &xattrs, &err);
		if (!ret) {
			while ((ret = daxfs_xattrs_next(&xattrs, &entry, &err)) > 0)
				count++;
			daxfs_xattrs_close(&xattrs);
		}
		if ((ret ?: count) != table[i].entries) {
			fprintf(stderr, "attribute set, %s: %d\n", table[i].why, ret ?: count);
			failures++;
		}
	}
}

int main(void)
{
	region_is_bounded();
	checksum_is_crc32c();
	names_are_judged();
	every_name_is_found(true);
	every_name_is_found(false);
	lookup_stays_inside();
	attribute_sets_are_judged();
	return failures != 0;
}
