-- ARGV: key of a collection, what the roster is told (enrol_each), 1 to look only. Returns the numbers, from 0, of the documents
-- that it did not know, or of which it knew an older version.
local items, unknown = cjson.decode(ARGV[2]), {}
for i = 1, #items, 3 do
  local _, known = entry_of(ARGV[1], items[i], items[i + 1])
  if tonumber(items[i + 2]) > tonumber(known[1] or '-1') then
    table.insert(unknown, (i - 1) / 3)
    if ARGV[3] ~= '1' then enrol(ARGV[1], items[i], items[i + 1], items[i + 2]) end
  end
end
return unknown
