// SPDX-License-Identifier: GPL-2.0
/*
 * Attribute sets: one copy of a set is judged, entry by entry, and used.
 */
#include "engine.h"

/* Copies out the set at image offset @offset, which lies inside the attribute region. */
int daxfs_xattrs_open(const struct daxfs_base *base, u64 offset, struct daxfs_xattrs *set,
		      struct daxfs_error *err)
{
	struct daxfs_xattr_set header;
	u64 room = offset < base->xattr_end ? base->xattr_end - offset : 0;
	int ret;

	memset(set, 0, sizeof(*set));
	ret = daxfs_region_read(base->region, offset, &header, sizeof(header), err);
	if (ret)
		return ret;
	set->size = le32_to_cpu(header.size);
	room = min_t(u64, room, DAXFS_XATTR_SET_MAX);
	if (set->size < sizeof(header) || set->size > room || set->size % 8)
		return daxfs_corrupt(err, "size of an attribute set", offset,
				     "expected a multiple of 8 from 16 to %llu, found %u",
				     (unsigned long long)room, set->size);
	set->bytes = daxfs_alloc(1, set->size);
	if (!set->bytes)
		return daxfs_fail(err, ENOMEM, "attribute set", offset, "no memory");
	ret = daxfs_region_read(base->region, offset, set->bytes, set->size, err);
	if (ret)
		goto fail;
	/* The header that is used is the copy's, and must still say its size. */
	memcpy(&header, set->bytes, sizeof(header));
	if (le32_to_cpu(header.size) != set->size) {
		ret = daxfs_corrupt(err, "size of an attribute set", offset,
				    "expected %u, found %u", set->size, le32_to_cpu(header.size));
		goto fail;
	}
	if (memchr_inv(header.reserved, 0, sizeof(header.reserved))) {
		ret = daxfs_corrupt(err, "extended attribute", offset, "expected zero padding");
		goto fail;
	}
	set->offset = offset;
	set->count = le32_to_cpu(header.count);
	set->position = sizeof(header);
	return 0;
fail:
	daxfs_xattrs_close(set);
	set->bytes = NULL;
	return ret;
}

/* The next entry: 1 and @entry, or 0 after the last, which must end where the set does. */
int daxfs_xattrs_next(struct daxfs_xattrs *set, struct daxfs_xattr *entry, struct daxfs_error *err)
{
	struct daxfs_xattr_entry header;
	u32 room = set->size - set->position, name_len, value_len, stored;
	u64 at = set->offset + set->position;
	const u8 *name;

	if (!set->count--) {
		if (room)
			return daxfs_corrupt(err, "extended attribute", at,
					     "expected entries that fill the set");
		return 0;
	}
	if (room < sizeof(header))
		return daxfs_corrupt(err, "extended attribute", at,
				     "expected an entry, found the end of the set");
	memcpy(&header, set->bytes + set->position, sizeof(header));
	room -= sizeof(header);
	name_len = le16_to_cpu(header.name_len);
	value_len = le32_to_cpu(header.value_len);
	if (!name_len || name_len > DAXFS_XATTR_NAME_MAX || value_len > DAXFS_XATTR_VALUE_MAX)
		return daxfs_corrupt(err, "extended attribute", at,
				     "found a name of %u bytes, a value of %u", name_len,
				     value_len);
	stored = (name_len + value_len + 7) & ~7u;
	if (stored > room)
		return daxfs_corrupt(err, "extended attribute", at,
				     "expected an entry inside the set");
	name = set->bytes + set->position + sizeof(header);
	if (memchr(name, 0, name_len) || memchr_inv(header.reserved, 0, sizeof(header.reserved)) ||
	    memchr_inv(name + name_len + value_len, 0, stored - name_len - value_len))
		return daxfs_corrupt(err, "extended attribute", at, "expected zero padding");
	if (set->last.name) {
		u32 common = min_t(u32, name_len, set->last.name_len);
		int way = memcmp(set->last.name, name, common);

		if (way > 0 || (!way && set->last.name_len >= name_len))
			return daxfs_corrupt(err, "extended attribute", at,
					     "expected names in ascending order");
	}
	entry->name = (const char *)name;
	entry->name_len = name_len;
	entry->value = name + name_len;
	entry->value_len = value_len;
	set->last = *entry;
	set->position += sizeof(header) + stored;
	return 1;
}
