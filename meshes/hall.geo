// A foyer of 30 m x 18 m: two rooms behind a partition with a gap, six pillars, two exits.
// Lengths are metres. Make the mesh with:  gmsh -2 hall.geo -o hall.msh
SetFactory("OpenCASCADE");

length = 30;  width = 18;

// Partition across the hall, 0.3 m thick, with a gap of 3.2 m.
partition = 15;  thickness = 0.3;  gap_low = 6.4;  gap_high = 9.6;

// Doors: the main exit of 2.4 m in the east wall, the side exit of 1.2 m in the south wall. Each is
// a short passage, at whose outer end people count as gone: so its width limits the flow.
main_low = 11.2;  main_high = 13.6;
side_low = 4.4;   side_high = 5.6;
passage = 1;

Rectangle(1) = {0, 0, 0, length, width};
Rectangle(2) = {partition, 0, 0, thickness, gap_low};
Rectangle(3) = {partition, gap_high, 0, thickness, width - gap_high};

// Four round pillars of 0.8 m in the east room, two square ones of 0.7 m in the west room.
Disk(4) = {20, 6, 0, 0.4};
Disk(5) = {20, 12.4, 0, 0.4};
Disk(6) = {25.4, 6, 0, 0.4};
Disk(7) = {25.4, 12.4, 0, 0.4};
Rectangle(8) = {9.65, 5.15, 0, 0.7, 0.7};
Rectangle(9) = {9.65, 12.15, 0, 0.7, 0.7};
Rectangle(10) = {length, main_low, 0, passage, main_high - main_low};
Rectangle(11) = {side_low, -passage, 0, side_high - side_low, passage};
BooleanUnion{ Surface{1}; Delete; }{ Surface{10, 11}; Delete; }
floor() = Surface{:};
floor() -= {2:9};
BooleanDifference{ Surface{floor()}; Delete; }{ Surface{2:9}; Delete; }

e = 0.01;
floor() = Surface{:};
outer = length + passage;
main() = Curve In BoundingBox {outer - e, main_low - e, -e, outer + e, main_high + e, e};
side() = Curve In BoundingBox {side_low - e, -passage - e, -e, side_high + e, e - passage, e};
pillars() = {};
xs() = {20, 20, 25.4, 25.4, 10, 10};
ys() = {6, 12.4, 6, 12.4, 5.5, 12.5};
For k In {0 : 5}
  near() = Curve In BoundingBox {xs(k) - 0.5, ys(k) - 0.5, -e, xs(k) + 0.5, ys(k) + 0.5, e};
  pillars() += near();
EndFor
walls() = Curve{:};
walls() -= main();
walls() -= side();
walls() -= pillars();

Physical Surface("floor", 1) = floor();
Physical Curve("main exit", 2) = main();
Physical Curve("side exit", 3) = side();
Physical Curve("walls", 4) = walls();
Physical Curve("pillars", 5) = pillars();

// Mesh size: 0.55 m on the open floor, 0.2 m at doors and pillars.
Field[1] = Distance;
Field[1].CurvesList = {main(), side()};
Field[1].Sampling = 40;
Field[2] = Threshold;
Field[2].InField = 1;
Field[2].SizeMin = 0.2;  Field[2].SizeMax = 0.55;  Field[2].DistMin = 1.4;  Field[2].DistMax = 5;
Field[3] = Distance;
Field[3].CurvesList = {pillars()};
Field[3].Sampling = 20;
Field[4] = Threshold;
Field[4].InField = 3;
Field[4].SizeMin = 0.2;  Field[4].SizeMax = 0.55;  Field[4].DistMin = 0.1;  Field[4].DistMax = 2;
Field[5] = Min;
Field[5].FieldsList = {2, 4};
Background Field = 5;
Mesh.MeshSizeExtendFromBoundary = 0;
Mesh.MeshSizeFromPoints = 0;
Mesh.Algorithm = 6;
Mesh.MshFileVersion = 4.1;
