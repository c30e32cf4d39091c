-- ARGV: key of the collection that a parcel was accepted for, key of the one that it goes to, what the roster is told
--       (enrol_each). Moves the parcel's documents from roster to roster.
also_when_memory_is_full()
local items = cjson.decode(ARGV[3])
for i = 1, #items, 4 do enrol(ARGV[1], items[i], items[i + 1], items[i + 2], false) end
enrol_each(ARGV[2], items)
return 1
